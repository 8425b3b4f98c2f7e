"""Debian's Prometheus as a child process."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.broker import free_port
from tests.scrapes import get

ALERTS = Path(__file__).parent.parent.parent / "deploy" / "prometheus" / "alerts.yml"


class Prometheus:
    """One that scrapes an appliance every second, with the alerts of `deploy/`."""

    def __init__(self, port: int) -> None:
        self._port = port

    def is_ready(self) -> bool:
        try:
            return get(self._port, "/-/ready").status == 200
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression comes to now."""
        answer = get(self._port, f"/api/v1/query?query={urllib.parse.quote(expression)}")
        assert answer.status == 200, f"{expression}: {answer.body}"
        found: list[dict[str, Any]] = json.loads(answer.body)["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        """The one sample's value; None for none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None


@contextmanager
def prometheus(folder: Path, *, scraped: int, token: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the port `scraped` with the token in a file."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{ALERTS}]
scrape_configs:
  - job_name: delen
    authorization: {{credentials_file: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{scraped}"]}}]
"""
    )
    port = free_port()
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
    )
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(20)
