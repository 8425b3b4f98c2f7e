"""Runs every benchmark, and renders what it found into docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

NAMES = (
    "conditions",
    "split",
    "roundtrip",
    "memory",
    "storage",
    "early_exit",
    "bounds",
    "overload",
    "isolation",
    "decision",
    "throughput",
    "drift",
    "metering",
    "budget",
    "metrics",
    "dashboard",
    "peers",
)
PAGE = Path("docs/benchmarks.md")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main() -> None:
    findings = [_run(name) for name in NAMES]
    print(json.dumps(findings))
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{_render(findings)}\n{END}{after}")


def _run(name: str) -> dict[str, Any]:
    """Runs a benchmark in a process of its own, so that none warms up for another."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, check=True
    )
    finding: dict[str, Any] = json.loads(done.stdout)
    return finding


def _render(findings: list[dict[str, Any]]) -> str:
    lines = [
        f"On {os.cpu_count()} cores ({_processor()}).",
        "",
        "| benchmark | figure | goal | met |",
        "|---|---|---|---|",
    ]
    lines += [_row(finding) for finding in findings]
    for finding in findings:
        lines += ["", f"`{finding['name']}` was made from:", "", "```json"]
        lines += [json.dumps(finding["measured"], indent=2, ensure_ascii=False), "```"]
    return "\n".join(lines)


def _row(finding: dict[str, Any]) -> str:
    met = "yes" if finding["met"] else "**no**"
    figure = f"{finding['figure']:g} {finding['unit']}"
    return f"| `{finding['name']}` | {figure} | {finding['goal']} | {met} |"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


if __name__ == "__main__":
    main()
