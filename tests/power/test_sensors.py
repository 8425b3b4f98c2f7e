"""Sensors in sysfs, on file trees as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import MeterError
from appliance.power.ina3221 import open_power_monitors
from appliance.power.rapl import open_rapl
from tests.simulated import SimulatedClock


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


ORIN = "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
ORIN_NANO_RAILS: dict[str, object] = {
    f"{ORIN}/in1_label": "VDD_IN",
    f"{ORIN}/in1_input": 5032,
    f"{ORIN}/curr1_input": 928,
    f"{ORIN}/in2_label": "VDD_CPU_GPU_CV",
    f"{ORIN}/in2_input": 5024,
    f"{ORIN}/curr2_input": 120,
    f"{ORIN}/in3_label": "NC",
    f"{ORIN}/in3_input": 0,
    f"{ORIN}/curr3_input": 0,
    f"{ORIN}/in4_input": 120,
    f"{ORIN}/in7_label": "sum of shunt voltages",
    f"{ORIN}/in7_input": 300,
    "class/thermal/thermal_zone0/type": "cpu-thermal",
    "class/thermal/thermal_zone0/temp": 48250,
}


def test_rails_are_found_by_label_and_are_volts_times_amperes(tmp_path: Path) -> None:
    write(tmp_path, ORIN_NANO_RAILS)

    with open_power_monitors(tmp_path) as monitors:
        reading = monitors.read()

    assert reading.rails_w == pytest.approx({"VDD_IN": 4.669696, "VDD_CPU_GPU_CV": 0.60288})
    assert reading.total_of == ("VDD_IN",)
    assert reading.temperatures_c == {"cpu": 48.25}


def test_a_reading_is_new_each_time_and_may_be_negative(tmp_path: Path) -> None:
    write(tmp_path, ORIN_NANO_RAILS)

    with open_power_monitors(tmp_path) as monitors:
        monitors.read()
        write(tmp_path, {f"{ORIN}/curr1_input": -8})
        reading = monitors.read()

    assert reading.rails_w["VDD_IN"] == pytest.approx(-0.040256)


def test_a_board_with_two_sensors_and_no_input_rail_adds_up_what_is_connected(
    tmp_path: Path,
) -> None:
    rails = {"1-0040": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
             "1-0041": ("NC", "VDDQ_VDD2_1V8AO", "NC")}  # fmt: skip
    for number, (address, names) in enumerate(rails.items()):
        folder = f"bus/i2c/drivers/ina3221/{address}/hwmon/hwmon{number}"
        for channel, name in enumerate(names, start=1):
            write(tmp_path, {f"{folder}/in{channel}_label": name})
            write(tmp_path, {f"{folder}/in{channel}_input": 5000})
            write(tmp_path, {f"{folder}/curr{channel}_input": 200})

    with open_power_monitors(tmp_path) as monitors:
        reading = monitors.read()

    assert reading.total_of == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")
    assert reading.total_w == pytest.approx(4.0)


def test_jetpack_4_shows_its_rails_as_iio_devices(tmp_path: Path) -> None:
    folder = "bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    write(
        tmp_path,
        {
            f"{folder}/rail_name_0": "POM_5V_IN",
            f"{folder}/in_power0_input": 2132,
            f"{folder}/rail_name_1": "POM_5V_GPU",
            f"{folder}/in_power1_input": 78,
        },
    )

    with open_power_monitors(tmp_path) as monitors:
        reading = monitors.read()

    assert reading.rails_w == pytest.approx({"POM_5V_IN": 2.132, "POM_5V_GPU": 0.078})


def test_a_thor_measures_its_input_with_an_ina238_on_the_carrier(tmp_path: Path) -> None:
    folder = "bus/i2c/drivers/ina2xx/2-0044/hwmon/hwmon5"
    write(tmp_path, {f"{folder}/name": "ina238", f"{folder}/power1_input": 26_686_000})
    write(tmp_path, {key: value for key, value in ORIN_NANO_RAILS.items() if "in1" not in key})

    with open_power_monitors(tmp_path) as monitors:
        reading = monitors.read()

    assert reading.total_of == ("VIN",)
    assert reading.total_w == pytest.approx(26.686)


def test_without_sensors_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="no power sensor"), open_power_monitors(tmp_path):
        pass


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    # A folder in its place: root, too, is refused that.
    write(tmp_path, {f"{ORIN}/in1_label": "VDD_IN", f"{ORIN}/curr1_input": 1})
    (tmp_path / ORIN / "in1_input").mkdir()

    with pytest.raises(MeterError, match="in1_input"), open_power_monitors(tmp_path):
        pass


def test_a_permission_error_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, ORIN_NANO_RAILS)

    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)

    with pytest.raises(MeterError, match="may not be read"), open_power_monitors(tmp_path):
        pass


def test_a_channel_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
    write(tmp_path, {**ORIN_NANO_RAILS, f"{ORIN}/in2_input": "off"})

    with open_power_monitors(tmp_path) as monitors:
        assert list(monitors.read().rails_w) == ["VDD_IN"]


def test_a_rail_that_vanishes_while_it_is_read_fails_the_meter(tmp_path: Path) -> None:
    write(tmp_path, ORIN_NANO_RAILS)

    with open_power_monitors(tmp_path) as monitors:
        (tmp_path / ORIN / "curr1_input").write_text("")
        with pytest.raises(MeterError, match="curr1_input holds no number"):
            monitors.read()


PACKAGE = "class/powercap/intel-rapl:0"
RAPL: dict[str, object] = {
    f"{PACKAGE}/name": "package-0",
    f"{PACKAGE}/energy_uj": 1_000_000,
    f"{PACKAGE}/max_energy_range_uj": 10_000_000,
    f"{PACKAGE}:0/name": "core",
    f"{PACKAGE}:0/energy_uj": 0,
    f"{PACKAGE}:1/name": "dram",
    f"{PACKAGE}:1/energy_uj": 0,
}


def test_counters_become_mean_powers_at_the_middle_of_their_time(tmp_path: Path) -> None:
    write(tmp_path, RAPL)
    clock = SimulatedClock(10.0)

    with open_rapl(tmp_path, clock) as domains:
        clock.advance(0.5)
        write(tmp_path, {f"{PACKAGE}/energy_uj": 6_000_000, f"{PACKAGE}:1/energy_uj": 500_000})
        reading = domains.read()

    assert reading is not None
    assert reading.time_s == 10.25
    assert reading.rails_w == pytest.approx(
        {"package-0": 10.0, "package-0/core": 0.0, "package-0/dram": 1.0}
    )
    assert reading.total_of == ("package-0", "package-0/dram")


def test_a_counter_that_wraps_goes_on_from_its_end(tmp_path: Path) -> None:
    write(tmp_path, RAPL)
    clock = SimulatedClock()

    with open_rapl(tmp_path, clock) as domains:
        clock.advance(1.0)
        write(tmp_path, {f"{PACKAGE}/energy_uj": 500_000})
        reading = domains.read()

    assert reading is not None
    assert reading.rails_w["package-0"] == pytest.approx(9.5)


def test_a_counter_that_begins_anew_without_a_limit_gives_no_reading(tmp_path: Path) -> None:
    write(tmp_path, RAPL)
    (tmp_path / PACKAGE / "max_energy_range_uj").unlink()
    clock = SimulatedClock()

    with open_rapl(tmp_path, clock) as domains:
        clock.advance(1.0)
        write(tmp_path, {f"{PACKAGE}/energy_uj": 0})
        first = domains.read()
        clock.advance(1.0)
        write(tmp_path, {f"{PACKAGE}/energy_uj": 3_000_000})
        second = domains.read()

    assert first is None
    assert second is not None
    assert second.rails_w["package-0"] == pytest.approx(3.0)


def test_the_platform_counter_goes_before_the_packages(tmp_path: Path) -> None:
    platform = "class/powercap/intel-rapl:1"
    write(tmp_path, {**RAPL, f"{platform}/name": "psys", f"{platform}/energy_uj": 0})
    clock = SimulatedClock()

    with open_rapl(tmp_path, clock) as domains:
        clock.advance(1.0)
        reading = domains.read()

    assert reading is not None
    assert reading.total_of == ("psys",)


def test_without_counters_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="no energy counters"), open_rapl(tmp_path):
        pass
