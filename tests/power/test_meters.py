"""Meters as they live and fail: real child processes, libraries that are not there, the thread."""

from __future__ import annotations

import os
import sys
import textwrap
import types
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from typing_extensions import Self

from appliance.errors import MeterError
from appliance.power import jtop
from appliance.power.jtop import Jtop
from appliance.power.meters import MeterOptions, Search
from appliance.power.nvml import open_nvml
from appliance.power.protocol import Reading
from appliance.power.sampler import Sampler
from appliance.power.tegrastats import Tegrastats
from tests.power.lines import ORIN_NANO, THOR
from tests.power.test_sensors import ORIN_NANO_RAILS, write
from tests.simulated import SimulatedClock
from tests.waiting import PATIENCE_S, wait_until


def a_program(folder: Path, body: str, *, name: str = "tegrastats") -> str:
    """A program in Python in place of tegrastats; its path."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(body)}")
    path.chmod(0o755)
    return str(path)


def readings_of(program: str, *, interval_s: float = 0.02) -> Iterator[Reading]:
    meter = Tegrastats([program], interval_s=interval_s)
    return meter.readings()


PRINTS_FOR_EVER = f"""
    import sys, time
    while True:
        print({ORIN_NANO!r}, flush=True)
        time.sleep(float(sys.argv[2]) / 1000)
"""


def test_tegrastats_is_read_line_by_line_at_the_interval_asked_for(tmp_path: Path) -> None:
    readings = readings_of(a_program(tmp_path, PRINTS_FOR_EVER))

    first, second = islice(readings, 2)

    assert first.total_w == 4.683
    assert second.time_s > first.time_s


def test_lines_that_are_none_are_passed_by(tmp_path: Path) -> None:
    body = f"""
        import time
        print("tegrastats: warming up", flush=True)
        time.sleep(0.05)
        print({ORIN_NANO!r}, flush=True)
        time.sleep(60)
    """

    assert next(readings_of(a_program(tmp_path, body))).total_w == 4.683


def test_a_line_that_comes_in_pieces_is_one_line(tmp_path: Path) -> None:
    body = f"""
        import sys, time
        for part in ({ORIN_NANO[:200]!r}, {ORIN_NANO[200:]!r} + "\\n"):
            sys.stdout.write(part)
            sys.stdout.flush()
            time.sleep(0.05)
        time.sleep(60)
    """

    assert next(readings_of(a_program(tmp_path, body))).total_w == 4.683


def test_a_program_that_ends_is_an_error_that_tells_its_last_words(tmp_path: Path) -> None:
    body = "import sys; sys.exit('tegrastats: no such board')"

    with pytest.raises(MeterError, match="it ended, exit code 1"):
        next(readings_of(a_program(tmp_path, body)))


def test_a_program_that_falls_silent_is_noticed_within_two_seconds(tmp_path: Path) -> None:
    body = f"import time; print({ORIN_NANO!r}, flush=True); time.sleep(60)"
    readings = readings_of(a_program(tmp_path, body))
    next(readings)

    with pytest.raises(MeterError, match="fell silent"):
        next(readings)


def test_a_program_that_begins_to_talk_nonsense_is_noticed(tmp_path: Path) -> None:
    body = f"""
        import time
        print({ORIN_NANO!r}, flush=True)
        while True:
            print("VDD_IN soon", flush=True)
            time.sleep(0.02)
    """
    readings = readings_of(a_program(tmp_path, body))
    next(readings)

    with pytest.raises(MeterError, match="no rails in it"):
        next(readings)


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    body = """
        import sys
        while True:
            sys.stdout.write("x" * 10_000)
    """

    with pytest.raises(MeterError, match="without an end"):
        next(readings_of(a_program(tmp_path, body)))


def test_no_process_is_left_behind_not_even_a_script_s_child(tmp_path: Path) -> None:
    body = f"""
        import subprocess, sys, time
        child = subprocess.Popen(["sleep", "60"])
        open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
        print({ORIN_NANO!r}, flush=True)
        time.sleep(60)
    """
    meter = Tegrastats([a_program(tmp_path, body)], interval_s=0.1)
    readings = meter.readings()
    next(readings)

    meter.close()

    assert list(readings) == []
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(MeterError, match="no program nosuchstats"):
        next(readings_of("nosuchstats"))


# The optional libraries.


def test_jtop_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jtop", None)

    with pytest.raises(MeterError, match=r"delen\[jetson\]"):
        next(Jtop(interval_s=0.1).readings())


class StandInJtop:
    """What jetson-stats' client gives on a board, by its documentation."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.power: dict[str, Any] = {
            "rail": {"VDD_SOC": {"power": 1375, "volt": 5000, "curr": 275, "avg": 1300}},
            "tot": {"name": "VDD_IN", "power": 4683, "avg": 4600},
        }
        self.temperature = {"cpu": {"temp": 56.3, "online": True}, "gpu": {"temp": -256.0}}
        self._left = 2

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def ok(self) -> bool:
        self._left -= 1
        return self._left >= 0


def test_a_folder_in_the_place_of_jtops_socket_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = types.SimpleNamespace(jtop=StandInJtop, JtopException=RuntimeError)
    monkeypatch.setitem(sys.modules, "jtop", library)
    monkeypatch.setattr(jtop, "SOCKET", tmp_path)

    with pytest.raises(MeterError, match=r"is a folder, .* remove it, start jtop.service"):
        next(Jtop(interval_s=0.1).readings())


def test_jtop_gives_rails_and_total_and_its_silence_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = types.SimpleNamespace(jtop=StandInJtop, JtopException=RuntimeError)
    monkeypatch.setitem(sys.modules, "jtop", library)
    readings = Jtop(interval_s=0.1).readings()

    first, _ = islice(readings, 2)

    assert first.rails_w == {"VDD_SOC": 1.375, "VDD_IN": 4.683}
    assert first.total_of == ("VDD_IN",)
    assert first.temperatures_c == {"cpu": 56.3}
    with pytest.raises(MeterError, match="fell silent"):
        next(readings)


def test_whatever_a_library_raises_the_thread_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(StandInJtop):
        def ok(self) -> bool:
            raise AttributeError("no such thing in this version")

    library = types.SimpleNamespace(jtop=Broken, JtopException=RuntimeError)
    monkeypatch.setitem(sys.modules, "jtop", library)

    with Sampler("jtop", options=options(tmp_path), deliver=lambda _reading: None) as sampler:
        wait_until(lambda: "no such thing" in (sampler.status().failure or ""))

        assert sampler.status().name == "modelled"


def test_the_real_nvml_library_says_what_is_missing_where_there_is_no_driver() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a driver")

    with pytest.raises(MeterError, match="NVML cannot be opened"), open_nvml():
        pass


class StandInNvml:
    """Two cards whose counters a test moves."""

    NVML_TEMPERATURE_GPU = 0
    NVMLError = RuntimeError

    def __init__(self) -> None:
        self.counters_mj = [5_000, 0]

    def nvmlInit(self) -> None: ...  # noqa: N802 - the library's names
    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.counters_mj)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, card: int) -> int:  # noqa: N802
        return self.counters_mj[card]

    def nvmlDeviceGetTemperature(self, _card: int, _sensor: int) -> int:  # noqa: N802
        return 41


def test_nvml_s_counters_become_mean_powers(monkeypatch: pytest.MonkeyPatch) -> None:
    library, clock = StandInNvml(), SimulatedClock(10.0)
    monkeypatch.setitem(sys.modules, "pynvml", library)

    with open_nvml(clock) as cards:
        clock.advance(0.1)
        library.counters_mj = [12_000, 6_000]
        reading = cards.read()
        clock.advance(0.1)
        library.counters_mj = [0, 0]
        begun_anew = cards.read()

    assert reading is not None
    assert reading.rails_w == pytest.approx({"GPU0": 70.0, "GPU1": 60.0})
    assert reading.total_w == pytest.approx(130.0)
    assert reading.time_s == pytest.approx(10.05)
    assert reading.temperatures_c == {"GPU0": 41.0, "GPU1": 41.0}
    assert begun_anew is None


# Choosing one, and the thread that reads it.


def options(folder: Path, *, tegrastats: str = "nosuchstats") -> MeterOptions:
    return MeterOptions(interval_s=0.02, tegrastats=tegrastats, sysfs=folder / "sys")


def test_auto_takes_the_best_that_works_and_says_why_not_the_others(tmp_path: Path) -> None:
    write(tmp_path / "sys", ORIN_NANO_RAILS)
    search = Search(name="auto", options=options(tmp_path))

    with closing(search.readings()) as readings:
        reading = next(readings)

    assert reading.total_of == ("VDD_IN",)
    assert search.meter is not None
    assert search.meter.name == "ina3221"
    assert search.refusals == {"tegrastats": "there is no program nosuchstats here"}


def test_where_no_meter_works_all_reasons_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jtop", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)

    with pytest.raises(MeterError) as caught:
        next(Search(name="auto", options=options(tmp_path)).readings())

    for name in ("tegrastats", "ina3221", "jtop", "rapl", "nvml"):
        assert f"{name}: " in str(caught.value)


def test_a_named_meter_is_the_only_one_that_is_tried(tmp_path: Path) -> None:
    search = Search(name="rapl", options=options(tmp_path))

    with pytest.raises(MeterError, match="rapl"):
        next(search.readings())

    assert list(search.refusals) == ["rapl"]


def test_a_meter_that_dies_is_opened_anew_and_its_readings_go_on(tmp_path: Path) -> None:
    body = f"""
        import os, time
        second = os.path.exists({str(tmp_path / "ran")!r})
        open({str(tmp_path / "ran")!r}, "w")
        while second and not os.path.exists({str(tmp_path / "go on")!r}):
            time.sleep(0.01)
        print({THOR!r} if second else {ORIN_NANO!r}, flush=True)
        while second:
            time.sleep(0.05)
            print({THOR!r}, flush=True)
    """
    readings: SimpleQueue[Reading] = SimpleQueue()
    program = a_program(tmp_path, body)

    with Sampler(
        "tegrastats", options=options(tmp_path, tegrastats=program), deliver=readings.put
    ) as sampler:
        first = readings.get(timeout=PATIENCE_S)
        wait_until(lambda: sampler.status().failure is not None)
        failed = sampler.status()
        (tmp_path / "go on").touch()
        second = readings.get(timeout=PATIENCE_S)
        wait_until(lambda: sampler.status().failure is None)
        recovered = sampler.status()

    assert (first.total_of, second.total_of) == (("VDD_IN",), ("VIN",))
    assert failed.failure is not None
    assert "it ended" in failed.failure
    assert (recovered.name, recovered.failure) == ("tegrastats", None)
    assert recovered.reading is not None


def test_without_any_meter_the_thread_goes_on_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jtop", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)

    with Sampler("auto", options=options(tmp_path), deliver=lambda _reading: None) as sampler:
        wait_until(lambda: "no power sensor" in (sampler.status().failure or ""))

        assert sampler.status().name == "modelled"


def test_the_modelled_meter_reads_nothing_and_misses_nothing(tmp_path: Path) -> None:
    with Sampler("modelled", options=options(tmp_path), deliver=lambda _reading: None) as sampler:
        status = sampler.status()

    assert (status.name, status.failure, status.reading) == ("modelled", None, None)


def test_the_program_may_be_named_with_arguments(tmp_path: Path) -> None:
    body = f"""
        import sys, time
        print({ORIN_NANO!r} * ("--board" in sys.argv), flush=True)
        time.sleep(60)
    """
    program = a_program(tmp_path, body)
    search = Search(name="tegrastats", options=options(tmp_path, tegrastats=f"{program} --board x"))

    with closing(search.readings()) as readings:
        assert next(readings).total_w == 4.683
    assert os.access(program, os.X_OK)
