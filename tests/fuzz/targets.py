"""The doors that are fuzzed, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz.frames import FRAMES
from tests.fuzz.manifests import MANIFESTS
from tests.fuzz.onnx_files import ONNX_FILES
from tests.fuzz.policies import POLICIES
from tests.fuzz.target import Target
from tests.fuzz.tegrastats import TEGRASTATS
from tests.fuzz.topics import TOPICS

TARGETS: Mapping[str, Target] = {
    target.name: target for target in (FRAMES, POLICIES, TOPICS, TEGRASTATS, MANIFESTS, ONNX_FILES)
}
