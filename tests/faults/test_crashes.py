"""SIGKILL at each point of a request's way, and what is left of it: real processes, real files."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from appliance.messages import Result
from tests.faults import faulty_engine
from tests.faults.checker import violations
from tests.faults.history import Heard
from tests.faults.power_cut import PowerCut
from tests.faults.proxy import FAIR, Weather
from tests.faults.world import DIGITS, World, rows_of, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

WAIT_S = 90.0
BACKLOG = 700
REQUESTS_BEFORE_THE_CUT = 60
NEVER = Weather(ack_delay_s=3600.0)
"""Acknowledgements stay on their way."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(
        folder=tmp_path, seed="crash", database_folder=tmp_path, metered=False, environment={}
    ) as world:
        yield world


def a_frame() -> bytes:
    return next(iter(sorted((DIGITS / "frames").rglob("*.jpg")))).read_bytes()


def a_large_frame() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((4000, 4000), 50).save(buffer, "JPEG")
    return buffer.getvalue()


def has_worked(world: World, seconds: float) -> None:
    """Waits until the appliance has worked for so long: it is in the midst of something."""
    process = world.serving.process
    before = sum(process.cpu_times()[:2])
    assert wait_for(lambda: sum(process.cpu_times()[:2]) - before >= seconds, WAIT_S)


def replies(world: World) -> list[Heard]:
    return [heard for heard in world.observer.heard if isinstance(heard.reply, Result)]


def logged(world: World) -> list[str]:
    return [row.reply.id for row in rows_of(world.database)]


def kill_and_start(world: World) -> None:
    world.kill_appliance()
    world.near.weather = FAIR
    world.serving.start()


def what_is_wrong(world: World) -> list[str]:
    """What does not hold once all had time to come about."""

    found: list[str] = []

    def nothing_is() -> bool:
        found[:] = ["unacknowledged"] * world.load.outstanding() + violations(world.history())
        return not found

    wait_for(nothing_is, WAIT_S)
    return found


def test_killed_at_arrival_it_is_answered_after_the_restart(world: World) -> None:
    with world.serving.frozen():
        for _ in range(5):
            world.load.probe.send(a_frame())
            world.load.counter.send(a_frame())
        assert wait_for(lambda: not world.load.outstanding(), WAIT_S)
        world.kill_appliance()
    world.serving.start()

    assert what_is_wrong(world) == []
    assert len(logged(world)) == 10


def test_killed_while_it_decodes_it_is_answered_after_the_restart(world: World) -> None:
    world.load.camera.send(a_large_frame())
    has_worked(world, 0.02)
    kill_and_start(world)

    assert wait_for(lambda: len(replies(world)) > 0, WAIT_S)
    assert what_is_wrong(world) == []
    assert len(logged(world)) == 1


def test_killed_in_a_stage_it_is_answered_after_the_restart(world: World) -> None:
    world.load.bench.send(faulty_engine.frame(faulty_engine.HANGS))
    has_worked(world, 0.3)
    assert replies(world) == []
    kill_and_start(world)

    assert wait_for(lambda: len(replies(world)) > 0, WAIT_S)
    assert what_is_wrong(world) == []
    assert len(logged(world)) == 1


def test_killed_between_publishing_and_the_commit_it_is_answered_twice_and_logged_once(
    world: World,
) -> None:
    with closing(sqlite3.connect(world.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        world.load.probe.send(a_frame())
        assert wait_for(lambda: len(replies(world)) == 1, WAIT_S)
        world.kill_appliance()
    world.serving.start()

    assert wait_for(lambda: len(replies(world)) == 2, WAIT_S)
    assert what_is_wrong(world) == []
    assert logged(world) == [replies(world)[1].reply.id]


@pytest.mark.parametrize("marked", [True, False])
def test_killed_between_the_commit_and_the_acknowledgement_the_log_answers(
    world: World,
    marked: bool,  # noqa: FBT001
) -> None:
    world.near.weather = NEVER
    (world.load.probe if marked else world.load.counter).send(a_frame())
    assert wait_for(lambda: len(logged(world)) == 1, WAIT_S)
    kill_and_start(world)

    assert wait_for(lambda: len(replies(world)) >= 2, WAIT_S)
    assert what_is_wrong(world) == []
    assert {heard.reply.id for heard in replies(world)} == set(logged(world))


def test_an_acknowledgement_that_is_lost_on_its_way_runs_nothing_twice(world: World) -> None:
    world.near.weather = NEVER
    world.load.probe.send(a_frame())
    assert wait_for(lambda: len(logged(world)) == 1, WAIT_S)
    world.near.weather = FAIR
    world.near.cut()
    world.load.probe.send(a_frame())

    assert wait_for(lambda: len(logged(world)) == 2, WAIT_S)
    assert what_is_wrong(world) == []
    assert {heard.reply.id for heard in replies(world)} == set(logged(world))


def test_a_killed_broker_delivers_what_it_had_saved(world: World) -> None:
    with world.serving.frozen():
        # The second makes the broker save once more after it has acknowledged the first.
        for _ in range(2):
            world.load.probe.send(a_frame())
            assert wait_for(lambda: not world.load.outstanding(), WAIT_S)
        acknowledged_s = world.load.probe.sent()[0].acknowledged_s or 0.0
        assert wait_for(lambda: world.broker_saved_s() > acknowledged_s, WAIT_S)
        world.kill_broker()
        world.broker.start()

    assert wait_for(lambda: len(logged(world)) >= 1, WAIT_S)
    assert what_is_wrong(world) == []
    assert world.history().promised(acknowledged_s)


def test_a_backlog_after_an_outage_is_answered_whole(world: World) -> None:
    world.kill_appliance()
    for _ in range(BACKLOG):
        world.load.probe.send(a_frame())
        world.load.counter.send(a_frame())
    assert wait_for(lambda: not world.load.outstanding(), WAIT_S)
    world.serving.start()

    assert wait_for(lambda: len(replies(world)) >= 2 * BACKLOG, WAIT_S)
    assert what_is_wrong(world) == []


def test_killed_while_a_policy_is_taken_in_the_last_accepted_one_is_in_force(world: World) -> None:
    version = world.load.fleet.push("gate", "digits")
    assert wait_for(lambda: not world.load.outstanding(), WAIT_S)
    kill_and_start(world)
    world.load.probe.send(a_frame())

    assert wait_for(lambda: len(replies(world)) == 1, WAIT_S)
    assert what_is_wrong(world) == []
    assert world.history().in_force["gate"] == version


def test_a_power_cut_leaves_all_that_was_acknowledged(tmp_path: Path) -> None:
    disk, workshop = tmp_path / "disk", tmp_path / "workshop"
    disk.mkdir()
    workshop.mkdir()
    cut = PowerCut(folder=disk, workshop=workshop)
    with World(
        folder=tmp_path / "world",
        seed="cut",
        database_folder=disk,
        metered=False,
        environment=cut.environment,
    ) as world:
        for _ in range(REQUESTS_BEFORE_THE_CUT):
            world.load.probe.send(a_frame())
            world.load.counter.send(a_frame())
        assert wait_for(lambda: len(logged(world)) > REQUESTS_BEFORE_THE_CUT // 2, WAIT_S)
        world.kill_appliance()
        cut.strike()
        world.serving.start()

        assert wait_for(lambda: len(replies(world)) >= 2 * REQUESTS_BEFORE_THE_CUT, WAIT_S)
        assert what_is_wrong(world) == []
        assert len(logged(world)) == 2 * REQUESTS_BEFORE_THE_CUT
        assert world.history().in_force["gate"] == 1
