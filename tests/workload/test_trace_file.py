"""Traces in files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import WorkloadError
from appliance.workload.trace import Arrival
from appliance.workload.trace_file import read_trace_file


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_times_count_from_the_first_request(tmp_path: Path) -> None:
    path = written(tmp_path, "tenant,time,label\ngate,1700000000.5,\nmeter,1700000002,7\n")

    assert list(read_trace_file(path)) == [
        Arrival(at_s=0.0, tenant="gate"),
        Arrival(at_s=1.5, tenant="meter", label="7"),
    ]


def test_json_lines_say_the_same(tmp_path: Path) -> None:
    lines = '{"time": 1, "tenant": "gate"}\n\n{"time": 2.5, "tenant": "meter", "label": "7"}\n'
    path = written(tmp_path, lines, "trace.jsonl")

    assert list(read_trace_file(path)) == [
        Arrival(at_s=0.0, tenant="gate"),
        Arrival(at_s=1.5, tenant="meter", label="7"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("trace.csv", 'time,tenant,answers\n0,gate,"[[0, 1], [2, 3]]"\n'),
        ("trace.jsonl", '{"time": 0, "tenant": "gate", "answers": [[0, 1], [2, 3]]}\n'),
    ],
)
def test_a_request_may_bring_its_answers(tmp_path: Path, name: str, text: str) -> None:
    (arrival,) = read_trace_file(written(tmp_path, text, name))

    assert arrival.answers is not None
    assert arrival.answers.dtype == np.float32
    assert arrival.answers.tolist() == [[0.0, 1.0], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", ":1: `time` is missing; the columns of a trace: time, tenant, label, answers"),
        ("time,tennant\n", ":1: no column `tennant` is known"),
        ("time,label\n1,7\n", ":1: `tenant` is missing"),
        ("time,tenant\n", "holds no requests"),
        ("time,tenant\n1,gate\n0.5,gate\n", ":3: the time 0.5 comes after 1: sort the requests"),
        ("time,tenant\nnoon,gate\n", ":2: 'noon' is no time in seconds"),
        ("time,tenant\nnan,gate\n", ":2: 'nan' is no time in seconds"),
        ("time,tenant\n1,gate,9\n", ":2: the columns are not those of line 1"),
        ("time,tenant\n1\n", ":2: the columns are not those of line 1"),
        ("time,tenant\n1,\n", ":2: '' is no tenant's name"),
        ("time,tenant,answers\n1,gate,[1]\n", ":2: the answers are no list of logits per exit"),
        ("time,tenant,answers\n1,gate,nope\n", ":2: the answers are no list of logits per exit"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(WorkloadError, match=re.escape(complaint)):
        list(read_trace_file(path))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("time,tenant\n1,gate\n", ":1: no JSON"),
        ("[1]\n", ":1: write one JSON object a line"),
        ('{"time": true, "tenant": "gate"}\n', ":1: True is no time in seconds"),
        ('{"time": 1, "tenant": "gate"}\n{"time": 2}\n', ":2: `tenant` is missing"),
    ],
)
def test_json_lines_are_checked_as_well(tmp_path: Path, text: str, complaint: str) -> None:
    path = written(tmp_path, text, "trace.jsonl")

    with pytest.raises(WorkloadError, match=re.escape(complaint)):
        list(read_trace_file(path))


def test_what_is_no_text_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(WorkloadError, match="cannot be read as a trace"):
        list(read_trace_file(path))
