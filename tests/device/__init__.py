"""Tests of the real TensorRT on a real GPU: skipped, with the reason, wherever there is none."""
