"""Engines that the process does not survive opening."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from appliance import manifest
from appliance.broker import Mosquitto
from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.openings import MOST_DEATHS, Openings
from appliance.serving import HUNG_EXIT_CODE
from tests.appliances import (
    WAIT_S,
    ApplianceProcess,
    Watch,
    client_of,
    push,
    settings_for,
)
from tests.engines import tiny_engine
from tests.faults import faulty_engine


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return manifest.load(tiny_engine(tmp_path / "tiny"))


def deaths(notes: Path, engine: Engine) -> Sequence[AbstractContextManager[None]]:
    """Openings of an engine that never ended; they are to be held for as long as that counts."""
    held = [Openings(notes).noted(engine) for _ in range(MOST_DEATHS)]
    for opening in held:
        opening.__enter__()
    return held


def test_an_engine_that_ended_the_process_too_often_is_left_alone(
    engine: Engine, tmp_path: Path
) -> None:
    held = deaths(tmp_path / "notes", engine)

    for _ in range(2):
        with (
            pytest.raises(EngineError, match="ended 3 times while the engine tiny was opened"),
            Openings(tmp_path / "notes").noted(engine),
        ):
            pass
    assert held


def test_once_its_files_have_changed_it_is_tried_again(engine: Engine, tmp_path: Path) -> None:
    held = deaths(tmp_path / "notes", engine)
    with (engine.folder / manifest.MANIFEST).open("a") as file:
        file.write("\n")

    with Openings(tmp_path / "notes").noted(engine):
        pass
    assert held


def test_an_opening_that_ends_in_whichever_way_is_forgotten(engine: Engine, tmp_path: Path) -> None:
    openings = Openings(tmp_path / "notes")
    for _ in range(2 * MOST_DEATHS):
        with pytest.raises(EngineError, match="no such stage"), openings.noted(engine):
            raise EngineError("no such stage")

    with openings.noted(engine):
        pass


@pytest.mark.parametrize("text", ["", "{", '{"tiny": 3}', "\\u00ff"])
def test_notes_that_cannot_be_read_count_nothing(engine: Engine, tmp_path: Path, text: str) -> None:
    (tmp_path / "notes").write_text(text)

    with Openings(tmp_path / "notes").noted(engine):
        pass


def test_an_engine_that_hangs_as_it_is_opened_is_given_up_and_others_are_served(
    broker: Mosquitto, tmp_path: Path
) -> None:
    faulty_engine.faulty_engine(tmp_path / "engines" / "endless", endless=True)
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path, stage_timeout=1.0)
    with client_of(settings) as client, ApplianceProcess(settings) as appliance:
        appliance.start()
        push(client, "tenant: door\nversion: 1\nengine: tiny\n", tenant="door")
        told = Watch(client, client.topics.policy_state("gate", settings.appliance_id))
        client.publish(client.topics.policy_set("gate"), b"version: 1\nengine: endless\n")
        codes = []
        for _ in range(MOST_DEATHS):
            codes.append(appliance.wait())
            appliance.start()
        state = told.next(WAIT_S)[1]
        appliance.terminate()

    assert codes == [HUNG_EXIT_CODE] * MOST_DEATHS
    assert b"ended 3 times while the engine endless was opened" in state


def test_a_runtime_that_hangs_as_it_reads_an_engine_ends_the_appliance(
    broker: Mosquitto, tmp_path: Path
) -> None:
    faulty_engine.endless_to_open(tmp_path / "engines" / "endless")
    settings = settings_for(broker, tmp_path, opening_timeout=0.5)
    with client_of(settings) as client, ApplianceProcess(settings) as appliance:
        appliance.start()
        client.publish(client.topics.policy_set("gate"), b"version: 1\nengine: endless\n")
        exit_code = appliance.wait()

    # By force where the runtime lets no thread run meanwhile, as ONNX Runtime 1.23 does.
    assert exit_code in {HUNG_EXIT_CODE, 1}
    assert json.loads((tmp_path / "delen.db.opening").read_bytes())["endless"][1] == 1
