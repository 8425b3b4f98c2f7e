"""Traces in files: CSV with a header, or a JSON object a line."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from appliance.errors import WorkloadError
from appliance.simulation import Answers
from appliance.workload.trace import Arrival

REQUIRED = ("time", "tenant")
COLUMNS = (*REQUIRED, "label", "answers")
JSON_LINES = (".jsonl", ".ndjson", ".json")


def read_trace_file(path: Path) -> Iterator[Arrival]:
    """The requests in a file, in its order, their times counted from the first.

    `time` is in seconds from any moment on and never goes backwards. `label` and `answers` may be
    left out, or empty; `answers` is a JSON list with one list of logits per exit. Raises
    WorkloadError with file and line.
    """
    first_s, last_s = math.nan, -math.inf
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = _json_rows(file, path) if path.suffix in JSON_LINES else _csv_rows(file, path)
            for line, row in rows:
                place = f"{path}:{line}"
                time_s = _time_s(row.get("time"), place)
                if time_s < last_s:
                    raise WorkloadError(
                        f"{place}: the time {time_s:g} comes after {last_s:g}: sort the requests"
                    )
                first_s = time_s if math.isnan(first_s) else first_s
                last_s = time_s
                yield _arrival(row, time_s - first_s, place)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"{path} cannot be read as a trace: {error}") from error
    if last_s == -math.inf:
        raise WorkloadError(f"{path} holds no requests")


def _csv_rows(lines: Iterator[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(lines, strict=True)
    _require_columns(reader.fieldnames or (), f"{path}:1")
    for row in reader:
        if None in row or None in row.values():
            raise WorkloadError(f"{path}:{reader.line_num}: the columns are not those of line 1")
        yield reader.line_num, row


def _json_rows(lines: Iterator[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise WorkloadError(f"{path}:{number}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise WorkloadError(f"{path}:{number}: write one JSON object a line")
        _require_columns(tuple(row), f"{path}:{number}")
        yield number, row


def _require_columns(names: Sequence[str], place: str) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in names]
    if unknown or missing:
        what = f"no column `{unknown[0]}` is known" if unknown else f"`{missing[0]}` is missing"
        raise WorkloadError(f"{place}: {what}; the columns of a trace: {', '.join(COLUMNS)}")


def _time_s(value: Any, place: str) -> float:
    try:
        time_s = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        time_s = math.nan
    if not math.isfinite(time_s):
        raise WorkloadError(f"{place}: {value!r} is no time in seconds")
    return time_s


def _arrival(row: Mapping[str, Any], at_s: float, place: str) -> Arrival:
    tenant, label, answers = row["tenant"], row.get("label"), row.get("answers")
    if not isinstance(tenant, str) or not tenant:
        raise WorkloadError(f"{place}: {tenant!r} is no tenant's name")
    return Arrival(
        at_s=at_s,
        tenant=tenant,
        label=None if label in (None, "") else str(label),
        answers=None if answers in (None, "") else _answers(answers, place),
    )


def _answers(value: Any, place: str) -> Answers:
    try:
        rows = json.loads(value) if isinstance(value, str) else value
        answers = np.array(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise WorkloadError(f"{place}: the answers are no list of logits per exit") from error
    if answers.ndim != 2 or answers.shape[1] == 0 or not np.isfinite(answers).all():
        raise WorkloadError(f"{place}: the answers are no list of logits per exit")
    return answers
