"""A stage that never ends: the appliance does, and serves again."""

from __future__ import annotations

from pathlib import Path

from appliance.broker import Mosquitto
from appliance.errors import Code
from appliance.messages import Rejection, Result
from appliance.reader import Reader
from appliance.serving import HUNG_EXIT_CODE
from tests.appliances import WAIT_S, ApplianceProcess, client_of, push, settings_for
from tests.faults.faulty_engine import NAME, WELL, faulty_engine, frame

FOR_EVER = 1e12
POLICY = f"tenant: gate\nversion: 1\nengine: {NAME}\n"


def test_an_appliance_whose_stage_hangs_ends_and_serves_again(
    broker: Mosquitto, tmp_path: Path
) -> None:
    faulty_engine(tmp_path / "engines" / NAME)
    settings = settings_for(broker, tmp_path, stage_timeout=1.0)
    with client_of(settings) as client, ApplianceProcess(settings) as appliance:
        appliance.start()
        push(client, POLICY)

        hung = client.submit("gate", frame(FOR_EVER)).result(WAIT_S)
        exit_code = appliance.wait()
        appliance.start()
        after = client.submit("gate", frame(WELL)).result(WAIT_S)
        appliance.terminate()

    assert isinstance(hung, Rejection)
    assert hung.code == Code.ENGINE_FAILED
    assert "stage 0 of faulty has not ended for 1 s" in hung.detail
    assert exit_code == HUNG_EXIT_CODE
    assert isinstance(after, Result)
    with Reader(settings.database) as reader:
        assert [reply.id for reply in reader.inferences()] == [hung.id, after.id]
