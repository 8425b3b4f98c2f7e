"""Doubles of `tensorrt` and `pycuda`, for machines that have neither.

No test that runs on them says anything about a GPU: they run a stage's ONNX on the host. What they
test is how the backend and the compiler use the two libraries: they keep the rules of their APIs,
defer all work to the synchronisation as a stream may, and count what they are asked.
"""
