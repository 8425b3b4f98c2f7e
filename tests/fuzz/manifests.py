"""The loader of manifests, ours and Dělen's, in an engine folder with files and with links.

What begins with `[` is Dělen's profile, the rest is an `engine.yaml`.
"""

from __future__ import annotations

import atexit
import functools
import tempfile
from pathlib import Path

from appliance import manifest
from appliance.errors import EngineError
from tests.engines import seed_engine, tiny_engine
from tests.fuzz import flat, trees
from tests.fuzz.target import Target


def check(data: bytes) -> None:
    """The engine, whose files lie in its folder and whose manifest can be written again."""
    own, seed = _folders()
    if data.startswith(b"["):
        (seed / "seed_profile.json").write_bytes(data)
        folder = seed
    else:
        (own / manifest.MANIFEST).write_bytes(data)
        folder = own
    try:
        engine = manifest.load(folder)
    except EngineError as error:
        str(error).encode()
        return
    for stage in engine.stages:
        for file in (stage.onnx, stage.tensorrt):
            assert file is None or file.resolve().is_relative_to(folder.resolve())
    if folder is own:
        manifest.save(engine, folder)
        assert manifest.load(folder) == engine


@functools.cache
def _folders() -> tuple[Path, Path]:
    """Two engine folders, made once: a manifest is all that changes in them."""
    place = tempfile.TemporaryDirectory(prefix="delen-fuzz-")
    atexit.register(place.cleanup)
    root = Path(place.name)
    own = tiny_engine(root / "engines" / "own")
    (own / "plan").write_bytes(b"")
    (root / "secret.onnx").write_bytes(b"")
    (own / "link.onnx").symlink_to(root / "secret.onnx")
    (own / "up").symlink_to(root)
    seed = seed_engine(root / "engines" / "seed", [{"accuracy": 0.5}, {"accuracy": 0.7}])
    return own, seed


MANIFESTS = Target(
    name="manifests",
    check=check,
    mutations=(trees.mutate, trees.mutate, trees.mutate, trees.mutate, trees.sprinkle, *flat.FLAT),
)
