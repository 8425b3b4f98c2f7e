"""A network of the user's own: a function in a Python file."""

from __future__ import annotations

import sys
from pathlib import Path
from runpy import run_path

from appliance.errors import ModellingError
from appliance.modelling.networks.multi_exit import MultiExitNetwork


def build(name: str, classes: int) -> MultiExitNetwork:
    """What `FUNCTION(classes)` returns, for a name such as `my_net.py:FUNCTION`.

    Raises ModellingError where there is no such file or function, or where it returns something
    else. An error inside the user's code is the user's: it comes out as it is.
    """
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise ModellingError(f"there is no file {path}: name a network as FILE.py:FUNCTION")
    # As for a script: what lies beside the file can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    builder = run_path(str(path)).get(function)
    if not callable(builder):
        raise ModellingError(f"{path} has no function {function}: name one that takes the classes")
    network = builder(classes)
    if not isinstance(network, MultiExitNetwork):
        raise ModellingError(
            f"{name} gave a {type(network).__name__}: return a MultiExitNetwork, such as"
            " `wrapped(stages, ...)` of appliance.modelling.networks.multi_exit makes of a list"
        )
    return network
