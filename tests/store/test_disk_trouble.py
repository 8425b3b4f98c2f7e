"""A store whose disk is full, slow, or held by another program."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import StoreError
from appliance.store import UNACKNOWLEDGED_RECORDS, Store
from tests.stores import DAY_S, RESULT, Gateway, locked, logged, opened, result
from tests.waiting import wait_until


def test_while_the_database_is_locked_records_are_kept_and_nothing_is_acknowledged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway()

    with opened(path, gateway) as store:
        with locked(path):
            store.log(RESULT, delivery=1, key=None)
            wait_until(lambda: store.failed is not None)
            reason, heard_while_locked = store.failed, len(gateway.heard)
        gateway.wait_for(1)

        assert reason is not None
        assert "database is locked" in reason
        assert heard_while_locked == 0
        assert store.failed is None
    assert logged(path) == [RESULT]
    assert caplog.text.count("the log cannot be written") == 1
    assert caplog.text.count("the log is written again") == 1


def test_a_full_disk_is_waited_out(path: Path) -> None:
    # A limit on the size of files stands for the full disk; a child has it to itself.
    script = """
    import resource, sys, time
    from pathlib import Path
    from appliance.store import Store
    from tests.stores import Gateway, result
    from tests.waiting import wait_until

    gateway = Gateway()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(Path(sys.argv[1]), max_age_s=1e9, max_bytes=10**9, on_logged=gateway.logged) as s:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited[1]))
        for number in range(2000):
            s.log(result(number), delivery=number, key=None)
        wait_until(lambda: s.failed is not None)
        print(s.failed, file=sys.stderr)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        gateway.wait_for(2000)
        assert s.failed is None
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stderr
    assert len(logged(path)) == 2000


def test_a_store_closed_while_it_cannot_write_says_what_is_lost(path: Path) -> None:
    store = Store(path, max_age_s=DAY_S, max_bytes=10**8, on_logged=Gateway().logged)
    store.__enter__()

    with locked(path):
        store.log(RESULT, delivery=1, key=None)
        wait_until(lambda: store.failed is not None)
        with pytest.raises(StoreError, match="1 records or more are lost: database is locked"):
            store.close()


def test_too_many_records_that_nobody_waits_for_are_turned_away(path: Path) -> None:
    gateway = Gateway()

    with opened(path, gateway) as store:
        with locked(path):
            for number in range(UNACKNOWLEDGED_RECORDS + 1000):
                store.log(result(number), delivery=0, key=None)
            store.log(replace(RESULT, id="awaited"), delivery=1, key=None)
            turned_away = store.turned_away
        gateway.wait_for(UNACKNOWLEDGED_RECORDS + 1001 - turned_away)

    assert 0 < turned_away <= 1000
    assert gateway.heard[-1][2].id == "awaited"
