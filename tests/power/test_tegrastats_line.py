"""tegrastats' lines: every board's rails exactly, and never a guess at what was cut off."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import MeterError
from appliance.power.tegrastats_line import Line, parse_line, read_log
from tests.power.lines import AGX_ORIN, ALL, NANO, ORIN_NANO, THOR, TX2, XAVIER


def test_a_nano_tells_of_its_input_without_date_or_unit() -> None:
    line = parse_line(NANO)

    assert line.rails_w == {"POM_5V_IN": 2.132, "POM_5V_GPU": 0.078, "POM_5V_CPU": 0.275}
    assert (line.total_of, line.total_w) == (("POM_5V_IN",), 2.132)
    assert line.temperatures_c["iwlwifi"] == 44.0
    assert len(line.temperatures_c) == 7


def test_an_orin_nano_tells_of_its_input_in_milliwatts() -> None:
    line = parse_line(ORIN_NANO)

    assert line.rails_w == {"VDD_IN": 4.683, "VDD_CPU_GPU_CV": 0.589, "VDD_SOC": 1.375}
    assert (line.total_of, line.total_w) == (("VDD_IN",), 4.683)
    assert line.temperatures_c["cpu"] == 56.343


def test_the_total_of_a_thor_is_vin_and_not_its_sibling_vin_sys_5v0() -> None:
    line = parse_line(THOR)

    assert (line.total_of, line.total_w) == (("VIN",), 26.686)
    assert line.rails_w["VIN_SYS_5V0"] == 7.62
    assert line.temperatures_c == {"cpu": 39.812, "tj": 39.906}


def test_without_an_input_rail_the_total_is_the_sum_of_all_a_negative_one_included() -> None:
    line = parse_line(XAVIER)

    assert line.total_of == ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
    assert line.total_w == pytest.approx(0.0 + 0.311 + 0.932 - 0.004 + 0.155 + 1.402)


def test_a_sensor_that_is_off_has_no_temperature_and_a_second_value_is_passed_by() -> None:
    temperatures_c = parse_line(XAVIER).temperatures_c

    assert "GPU" not in temperatures_c
    assert temperatures_c["CPU"] == 36.0


def test_rails_that_are_not_connected_are_none_and_a_peak_is_passed_by() -> None:
    line = parse_line(AGX_ORIN)

    assert list(line.rails_w) == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]
    assert line.total_w == pytest.approx(3.205 + 0.801 + 4.535 + 0.604)


def test_the_input_of_a_tx2_stands_among_its_rails() -> None:
    line = parse_line(TX2)

    assert (line.total_of, line.total_w) == (("VDD_IN",), 2.713)
    assert len(line.rails_w) == 6


@pytest.mark.parametrize("whole", ALL)
@pytest.mark.parametrize("end", ["\r\n", " \n", "\n"])
def test_a_line_is_the_same_whatever_it_ends_with(whole: str, end: str) -> None:
    ((_, line),) = read_log([whole + end])

    assert line == parse_line(whole)


@pytest.mark.parametrize("whole", ALL)
@given(chance=st.randoms(use_true_random=False))
def test_what_another_program_prints_into_a_line_never_changes_a_value(
    whole: str, chance: random.Random
) -> None:
    place = chance.randrange(len(whole) + 1)
    stray = chance.choice(["\0", "nvpmodel: Warnung\n", "\ufeff", "電力", "sh: 1: not found\n"])
    mixed = whole[:place] + stray + whole[place:]

    for _, line in read_log(part + "\n" for part in mixed.split("\n")):
        if isinstance(line, Line):
            known = {**parse_line(whole).rails_w, **_cut_values(whole, place)}
            assert line.rails_w.items() <= known.items()


def _cut_values(whole: str, place: int) -> dict[str, float]:
    """What the rail that was cut through says in its first part, where that looks whole."""
    try:
        return parse_line(whole[:place]).rails_w
    except MeterError:
        return {}


@pytest.mark.parametrize(
    "text",
    [
        "cpu@50C VDD_IN " + "9" * 5_000,
        "A 1mW " * 100_000,
        "cpu@50C VDD_IN ٤٦٨٣mW/٤٦٨٣mW",
    ],
)
def test_numbers_and_lines_beyond_all_measure_are_turned_away(text: str) -> None:
    with pytest.raises(MeterError):
        parse_line(text)


@pytest.mark.parametrize("whole", ALL)
def test_a_line_that_was_cut_off_anywhere_is_an_error_or_says_what_the_whole_one_says(
    whole: str,
) -> None:
    for end in range(len(whole)):
        (_, first), *cut = read_log([whole + "\n", whole[:end]])

        assert isinstance(first, Line)
        for _, line in cut:
            assert isinstance(line, MeterError) or line.rails_w == first.rails_w, whole[:end]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no rails"),
        ("hello", "no rails"),
        ("RAM 1655/3956MB (lfb 311x4MB) SWAP 0/1978MB", "no rails"),
        ("RAM 1655/3956MB", "no rails"),
        ("RAM 1655/39", "no rails"),
        ("GR3D_FREQ 0%@76 APE 25", "no rails"),
        ("cpu@50C", "no rails"),
        ("cpu@50C VDD_IN 46", None),
        ("cpu@50C VDD_IN 4683mW/46", None),
        ("cpu@50C VDD_IN 4683mW/4683mW VDD_SOC 13", "cut off"),
        ("cpu@50C VDD_IN 4683mW/4683m", "cut off"),
        ("cpu@50C VDD_IN NaNmW/4683mW", "cannot be read"),
        ("cpu@50C NC 0mW/0mW", "connected"),
        ("cpu@50C VDD_IN 99999999999mW/1mW", "more power"),
    ],
)
def test_what_is_no_line_is_said_in_a_sentence(text: str, complaint: str | None) -> None:
    if complaint is None:
        assert parse_line(text)
        return
    with pytest.raises(MeterError, match=complaint):
        parse_line(text)


def test_rails_are_found_where_a_line_has_no_temperatures() -> None:
    line = parse_line("RAM 1655/3956MB (lfb 1x4MB) GR3D_FREQ 0%@76 APE 25 VDD_IN 4683/4683")

    assert line.rails_w == {"VDD_IN": 4.683}


def test_a_last_line_without_an_end_counts_where_its_values_are_whole() -> None:
    (_, whole), (_, cut) = read_log([f"{ORIN_NANO}\n", "cpu@50C VDD_IN 4683mW/4683mW"])
    ((_, alone),) = read_log([ORIN_NANO])
    ((_, short),) = read_log(["cpu@50C VDD_IN 46"])

    assert isinstance(whole, Line)
    assert isinstance(cut, MeterError)
    assert "VDD_CPU_GPU_CV" in str(cut)
    assert isinstance(alone, Line)
    assert isinstance(short, MeterError)


def test_rails_may_appear_and_vanish_between_lines() -> None:
    lines = ["cpu@50C VDD_GPU 1mW/1mW\n", f"{ORIN_NANO}\n", "cpu@50C VDD_GPU 1mW/1mW\n"]

    totals = [line.total_of for _, line in read_log(lines) if isinstance(line, Line)]

    assert totals == [("VDD_GPU",), ("VDD_IN",), ("VDD_GPU",)]


@given(st.text(max_size=300))
def test_whatever_is_printed_is_read_or_turned_away(text: str) -> None:
    try:
        line = parse_line(text)
    except MeterError:
        return

    assert set(line.total_of) <= set(line.rails_w)


names = st.from_regex(r"[A-Z][A-Z0-9_]{0,12}", fullmatch=True).filter(lambda name: name != "NC")
watts = st.integers(-5_000, 200_000)


@given(
    st.dictionaries(names, watts, min_size=1, max_size=8),
    st.integers(1, 3),
    st.sampled_from(["mW", ""]),
)
def test_every_rail_of_any_board_is_read_back(
    rails_mw: dict[str, int], values: int, unit: str
) -> None:
    rails = " ".join(
        f"{name} {'/'.join([f'{mw}{unit}'] * values)}" for name, mw in rails_mw.items()
    )

    line = parse_line(f"RAM 1/2MB (lfb 1x4MB) CPU [off,1%@2] GR3D_FREQ 0% cpu@50C {rails}")

    assert line.rails_w == {name: mw / 1000 for name, mw in rails_mw.items()}
