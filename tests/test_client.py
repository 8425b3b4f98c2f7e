"""The client for applications, blocking and with asyncio, against a real broker and appliance."""

from __future__ import annotations

import asyncio
import gc
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from PIL import Image

from appliance.broker import Mosquitto
from appliance.client import (
    AsyncClient,
    Client,
    FrameError,
    NoReply,
    Rejection,
    RequestRejected,
    Result,
)
from appliance.errors import BrokerError
from appliance.questions import Question, Questions
from appliance.settings import Settings
from tests.appliances import WAIT_S, client_of, push, serving, settings_for
from tests.conftest import StartBroker
from tests.engines import tiny_engine

POLICY = "{tenant: gate, version: 1, engine: tiny, exit_when: exit >= 0, queue: {limit: 100}}"
PASSWORD = "of the gate"  # noqa: S105 - of a broker that ends with its test
BRIGHT = np.ones((1, 8, 8), np.float32)


@pytest.fixture(scope="module")
def settings(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Of a running appliance that serves the tenant `gate`."""
    folder = tmp_path_factory.mktemp("appliance")
    tiny_engine(folder / "engines" / "tiny")
    settings = settings_for(broker, folder)
    with serving(settings):
        with client_of(settings) as session:
            push(session, POLICY)
        yield settings


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client.from_settings(settings, tenant="gate") as client:
        yield client


def to_nobody(broker: Mosquitto, *, max_in_flight: int = 64) -> Client:
    return Client(
        broker.host,
        port=broker.port,
        tenant="gate",
        prefix="test/nobody",
        max_in_flight=max_in_flight,
    )


def result(reply: Result | Rejection) -> Result:
    assert isinstance(reply, Result), reply
    return reply


def png(mode: str) -> Image.Image:
    return Image.new(mode, (8, 8), "white")


def test_a_host_and_a_tenant_are_all_that_it_takes(settings: Settings) -> None:
    with Client(
        settings.mqtt_host,
        port=settings.mqtt_port,
        tenant="gate",
        prefix=settings.topic_prefix,
    ) as client:
        reply = result(client.infer(BRIGHT))

    assert (reply.tenant, reply.label) == ("gate", "bright")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_a_picture_of_any_mode_is_a_frame(client: Client, mode: str) -> None:
    picture = png("RGB").convert(mode)

    reply = result(client.infer(picture))

    assert reply.label == "bright"


def test_a_path_and_the_bytes_of_a_file_are_frames(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "bright.png"
    png("L").save(path)

    replies = [client.infer(path), client.infer(str(path)), client.infer(path.read_bytes())]

    assert [result(reply).label for reply in replies] == ["bright"] * 3


def test_an_array_that_is_not_contiguous_arrives_as_it_is(client: Client) -> None:
    array = np.zeros((1, 8, 16), np.float32)
    array[:, :, ::2] = 1.0

    reply = result(client.infer(array[:, :, ::2]))

    assert reply.label == "bright"


@pytest.mark.parametrize("frame", [42, None, np.array([object()]), Path("no/such/frame.png")])
def test_what_is_no_frame_is_said_to_be_none_before_anything_is_sent(
    client: Client, frame: object
) -> None:
    with pytest.raises(FrameError):
        client.infer(frame)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": "a/b"},
        {"stream": "+"},
        {"stream": ""},
        {"content_type": "image/\0"},
        {"content_type": "x" * 70_000},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"timeout_s": 1e12},
    ],
)
def test_what_a_request_cannot_say_is_refused_and_the_next_is_answered(
    client: Client, wrong: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="is no"):
        client.infer(BRIGHT, **wrong)  # type: ignore[arg-type]

    assert client.in_flight == 0
    assert result(client.infer(BRIGHT)).label == "bright"


def test_a_name_that_no_tenant_has_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="'a/b' is no tenant"):
        Client(tenant="a/b")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"broker": ""}, "no broker"),
        ({"port": 99_999}, "99999 is no port"),
        ({"port": -1}, "no port"),
        ({"prefix": "delen/#"}, "no prefix"),
        ({"prefix": "delen/"}, "no prefix"),
    ],
)
def test_a_place_where_no_appliance_can_be_is_refused_at_once(
    wrong: dict[str, Any], said: str
) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match=said):
            kind(**{"tenant": "gate", **wrong})


def test_a_frame_beyond_what_mqtt_can_say_is_never_sent(client: Client) -> None:
    with pytest.raises(BrokerError, match="at most 268435455"):
        client.infer(bytes(268_435_456))


def test_a_rejection_is_a_reply_or_an_error_as_is_asked_for(client: Client) -> None:
    reply = client.infer(b"no frame", stream="north")
    with pytest.raises(RequestRejected, match="415 unknown type") as raised:
        client.answer(b"no frame")

    assert isinstance(reply, Rejection)
    assert (reply.code, reply.stream) == (415, "north")
    assert raised.value.rejection.code == 415


def test_a_content_type_that_is_given_goes_before_what_the_frame_says(client: Client) -> None:
    with pytest.raises(RequestRejected, match="said to be image/jpeg"):
        client.answer(png("L"), content_type="image/jpeg")


def test_threads_share_a_client_and_each_gets_its_own_reply(client: Client) -> None:
    frames = [np.full((1, 8, 8), number % 2, np.float32) for number in range(60)]

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(client.infer, frames))

    assert all(
        (result(reply).confidence > 0.5) == bool(number % 2) for number, reply in enumerate(replies)
    )


def test_a_client_that_was_not_entered_connects_for_its_first_frame(settings: Settings) -> None:
    client = Client.from_settings(settings, tenant="gate")

    first = client.infer(BRIGHT)
    client.close()
    after_closing = client.infer(BRIGHT)
    client.close()

    assert result(first).label == result(after_closing).label == "bright"


def test_nobody_there_is_a_timeout_that_leaves_nothing_behind(broker: Mosquitto) -> None:
    with to_nobody(broker, max_in_flight=1) as client:
        for _ in range(3):
            with pytest.raises(NoReply, match="is an appliance online") as raised:
                client.infer(BRIGHT, timeout_s=0.05)
        left = client.in_flight

    assert isinstance(raised.value, TimeoutError)
    assert left == 0


def test_no_more_frames_are_on_their_way_than_are_allowed(broker: Mosquitto) -> None:
    with to_nobody(broker, max_in_flight=2) as client:
        first = [client.submit(BRIGHT) for _ in range(2)]

        with pytest.raises(NoReply):
            client.submit(BRIGHT, timeout_s=0.05)
        first[0].cancel()
        third = client.submit(BRIGHT, timeout_s=0.05)

    assert isinstance(third.exception(), BrokerError)


def test_closing_ends_the_wait_of_another_thread(broker: Mosquitto) -> None:
    client = to_nobody(broker).open()
    reply = client.submit(BRIGHT)
    threading.Timer(0.05, client.close).start()

    error = reply.exception(timeout=WAIT_S)

    assert isinstance(error, BrokerError)
    assert "closed" in str(error)


def test_a_frame_that_comes_before_its_appliance_is_answered(
    broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(broker, tmp_path)
    (settings.conditions / "gate.yaml").write_text(POLICY)

    with Client.from_settings(settings, tenant="gate") as client:
        reply = client.submit(BRIGHT, timeout_s=WAIT_S)
        with serving(settings):
            label = result(reply.result(WAIT_S)).label

    assert label == "bright"


def test_a_broker_that_refuses_the_tenant_says_so_at_once(start_broker: StartBroker) -> None:
    broker = start_broker(
        users={"gate": PASSWORD}, acl="user gate\ntopic read delen/v1/gate/result/#\n"
    )

    with (
        Client(broker.host, port=broker.port, tenant="gate", password=PASSWORD) as client,
        pytest.raises(BrokerError, match="refuses the frame: Not authorized"),
    ):
        client.infer(BRIGHT)
    with pytest.raises(BrokerError, match="refuses the connection"):
        Client(broker.host, port=broker.port, tenant="gate", password=PASSWORD[:-1]).open()


def test_a_frame_over_the_brokers_limit_is_never_sent(start_broker: StartBroker) -> None:
    broker = start_broker(max_packet_bytes=2000)

    with (
        Client(broker.host, port=broker.port, tenant="gate") as client,
        pytest.raises(BrokerError, match="packets of at most 2000"),
    ):
        client.infer(bytes(3000))


def unanswered(questions: Questions) -> Question:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    question = Question(topic="", frame=b"", properties=properties)
    questions.add(question)
    return question


def test_a_reply_that_cannot_be_read_is_an_error() -> None:
    questions = Questions()
    question = unanswered(questions)

    known = questions.answer(question.correlation, b"{]")

    assert known
    assert "cannot be read" in str(question.reply.exception())
    assert len(questions) == 0


def test_a_reply_after_its_future_was_cancelled_is_passed_by() -> None:
    questions = Questions()
    question = unanswered(questions)

    question.reply.cancel()

    assert not questions.answer(question.correlation, b"{}")


@pytest.fixture
def own_broker(start_broker: StartBroker) -> Mosquitto:
    """One that the test may kill; its memory is lost with it."""
    return start_broker()


def test_a_broker_that_restarts_between_frames_and_their_replies_loses_none(
    own_broker: Mosquitto, tmp_path: Path
) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    settings = settings_for(own_broker, tmp_path)
    (settings.conditions / "gate.yaml").write_text(POLICY)

    with serving(settings), Client.from_settings(settings, tenant="gate") as client:
        replies = [client.submit(BRIGHT, timeout_s=WAIT_S) for _ in range(40)]
        own_broker.kill()
        own_broker.start()
        answered = [result(reply.result(WAIT_S)) for reply in replies]

    with sqlite3.connect(settings.database) as database:
        (rows,) = database.execute("SELECT count(*) FROM inferences").fetchone()
    database.close()
    assert [reply.label for reply in answered] == ["bright"] * 40
    assert rows == len({reply.id for reply in answered}) == 40


def test_replies_that_were_sent_while_the_connection_was_cut_arrive(settings: Settings) -> None:
    with Client.from_settings(settings, tenant="gate") as client:
        client.infer(BRIGHT)
        network = client._session._client.socket()  # type: ignore[union-attr] # noqa: SLF001
        replies = [client.submit(BRIGHT, timeout_s=WAIT_S) for _ in range(20)]
        network.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        labels = [result(reply.result(WAIT_S)).label for reply in replies]

    assert labels == ["bright"] * 20


def test_asyncio_has_many_on_their_way_and_each_gets_its_own(settings: Settings) -> None:
    async def exchange() -> list[Result | Rejection]:
        async with AsyncClient.from_settings(settings, tenant="gate", max_in_flight=8) as client:
            frames = [np.full((1, 8, 8), number % 2, np.float32) for number in range(40)]
            return await asyncio.gather(*(client.infer(frame) for frame in frames))

    replies = asyncio.run(exchange())

    assert [result(reply).confidence > 0.5 for reply in replies] == [False, True] * 20


def test_a_cancelled_task_gives_its_place_to_the_next(broker: Mosquitto) -> None:
    async def exchange() -> int:
        async with AsyncClient(
            broker.host, port=broker.port, tenant="gate", prefix="test/nobody", max_in_flight=1
        ) as client:
            for _ in range(3):
                waiting = asyncio.create_task(client.infer(BRIGHT))
                await asyncio.sleep(0.02)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            with pytest.raises(NoReply):
                await client.infer(BRIGHT, timeout_s=0.05)
            return client.in_flight

    assert asyncio.run(exchange()) == 0


def test_asyncio_raises_what_a_rejection_says(settings: Settings) -> None:
    async def exchange() -> None:
        async with AsyncClient.from_settings(settings, tenant="gate") as client:
            await client.answer(b"no frame")

    with pytest.raises(RequestRejected, match="415"):
        asyncio.run(exchange())


def test_an_asyncio_client_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(BrokerError, match="async with"):
        asyncio.run(AsyncClient(tenant="gate").infer(BRIGHT))


def test_clients_one_after_the_other_leave_no_sockets_open(broker: Mosquitto) -> None:
    process = psutil.Process()
    gc.disable()
    try:
        to_nobody(broker).open().close()
        before = process.num_fds()
        for _ in range(10):
            to_nobody(broker).open().close()
        left = process.num_fds() - before
    finally:
        gc.enable()

    assert left < 10  # each had three; the appliance beside it may have some more


def test_importing_the_client_imports_nothing_that_serves() -> None:
    source = "import sys, appliance.client; print(*sys.modules)"

    modules = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"onnxruntime", "sqlite3", "sqlite_utils", "typer", "rich", "torch"} & set(modules)
