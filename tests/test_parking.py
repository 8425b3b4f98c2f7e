"""What waits for an engine comes out once, and in its tenant's order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.parking import Parking

Item = tuple[int, str, str]
"""Its number, its tenant, and the engine that it needs."""

NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.one_of(st.tuples(st.just("comes"), NAMES, NAMES), st.tuples(st.just("opens"), NAMES)),
    max_size=40,
)


def test_what_waits_behind_comes_out_with_the_first() -> None:
    parking: Parking[str] = Parking()

    parking.park("gate", "push", engine="digits")
    parking.park_behind("gate", "frame")
    parking.park("shop", "other", engine="faces")

    assert parking.release("digits") == ["push", "frame"]
    assert (parking.holds("gate"), parking.holds("shop"), len(parking)) == (False, True, 1)


class Desk:
    """Serves what comes as the intake does: by engines that are open, and parks the rest."""

    def __init__(self) -> None:
        self.parking: Parking[Item] = Parking()
        self.open_engines: set[str] = set()
        self.came: list[Item] = []
        self.served: list[Item] = []

    def comes(self, tenant: str, engine: str) -> None:
        self.came.append((len(self.came), tenant, engine))
        self._attempt(self.came[-1])

    def opens(self, engine: str) -> None:
        self.open_engines.add(engine)
        for item in self.parking.release(engine):
            self._attempt(item)

    def served_of(self, tenant: str) -> list[int]:
        return [number for number, its_tenant, _ in self.served if its_tenant == tenant]

    def _attempt(self, item: Item) -> None:
        _, tenant, engine = item
        if self.parking.holds(tenant):
            self.parking.park_behind(tenant, item)
        elif engine in self.open_engines:
            self.served.append(item)
        else:
            self.parking.park(tenant, item, engine=engine)


@given(STEPS)
def test_each_item_is_served_once_and_in_its_tenants_order(steps: list[tuple[str, ...]]) -> None:
    desk = Desk()

    for step in steps:
        if step[0] == "comes":
            desk.comes(*step[1:])
        else:
            desk.opens(step[1])
        assert len(desk.parking) == len(desk.came) - len(desk.served)
    for engine in "abc":
        desk.opens(engine)

    assert sorted(desk.served) == desk.came
    for tenant in "abc":
        assert desk.served_of(tenant) == sorted(desk.served_of(tenant))
