"""Asks which of the installed libraries are known to be vulnerable, where somebody can be asked.

Ends with 1 where one is, and with 0 where none is or nobody can be asked, which it says.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--local", "--skip-editable"),
    *("--progress-spinner", "off", "--format", "json"),
)


def main() -> int:
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)  # noqa: S603
    libraries = _libraries(done.stdout)
    asked = [library for library in libraries if "skip_reason" not in library]
    for library in asked:
        for fault in library["vulns"]:
            fixed = ", ".join(fault["fix_versions"]) or "no version yet"
            print(f"{library['name']} {library['version']}: {fault['id']}, mended in {fixed}")
    if not asked:
        print("No library was audited: the advisories of PyPI cannot be had here.")
    else:
        print(f"{len(asked)} of {len(libraries)} libraries were audited.")
    return 1 if any(library["vulns"] for library in asked) else 0


def _libraries(report: str) -> list[dict[str, Any]]:
    """What pip-audit says of each; nothing where it ended without a report."""
    try:
        libraries: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except ValueError:
        return []
    return libraries


if __name__ == "__main__":
    sys.exit(main())
