"""The policies in force: what is pushed is checked, kept and put in force here, or turned away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from appliance.document import Document
from appliance.engine import Engine
from appliance.errors import (
    Code,
    EngineClosed,
    EngineError,
    Fault,
    Faulty,
    InvalidDocument,
    Rejected,
    StoreError,
)
from appliance.feasibility import conflicts, exits_of
from appliance.messages import ExitOutlook, PolicyRejection, PolicyState
from appliance.plan import Plan, compile_plan
from appliance.policy import Policy, parse_policy_document, read_policy
from appliance.replies import iso
from appliance.shelf import EngineShelf
from appliance.store import Store

_log = logging.getLogger(__name__)

MOST_REFUSED = 256
"""Of how many tenants without a policy it is remembered why the one pushed is refused."""

MAX_PROBLEMS = 100
"""How many mistakes a state lists; `delen policy check` prints them all."""


class PolicyBook:
    """Owns the plans in force, as one snapshot that is never changed but replaced whole.

    `publish` is given each new snapshot, and `stage_times_s` gives the estimates of an open
    engine. Every call comes from the one thread that takes in what arrives; a policy is durable in
    the store before it is in force.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        appliance: str,
        shelf: EngineShelf,
        store: Store,
        stage_times_s: Callable[[Engine], Sequence[float]],
        publish: Callable[[Mapping[str, Plan]], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self._appliance = appliance
        self._shelf = shelf
        self._store = store
        self._stage_times_s = stage_times_s
        self._publish = publish
        self._wall_clock = wall_clock
        self._states: dict[str, PolicyState] = {}
        self._misfits: dict[str, Policy] = {}
        self.plans: Mapping[str, Plan] = MappingProxyType({})

    def states(self) -> list[PolicyState]:
        """What is in force, tenant by tenant."""
        return list(self._states.values())

    def state(self, tenant: str) -> PolicyState | None:
        """What is in force for a tenant; None where it never had anything."""
        return self._states.get(tenant)

    def tenants(self) -> frozenset[str]:
        """Those who have a policy, in force or not."""
        return frozenset(self._states)

    def restore(self, tenant: str, source: str) -> None:
        """Puts a policy from the store in force; its state says so where it does not hold any more.

        Raises EngineClosed where its engine is opened only now: then it is to be restored again.
        """
        try:
            plan, document_text = self._compile(tenant, source)
            self._put_in_force(plan, document_text)
        except InvalidDocument as error:
            self._reject(tenant, Rejected(Code.INVALID_POLICY, _detail(error)), error)

    def push(self, tenant: str, source: bytes, *, retained: bool = False) -> PolicyState | None:
        """Puts a pushed policy in force, or turns it away; None where it removed the policy.

        A rejected policy leaves the one in force untouched. The same document pushed again
        changes nothing, but that its engine is opened again where it was out of service; an older
        one that the broker had retained is passed by. Raises EngineClosed where its engine is
        opened only now: then it is to be pushed once more.
        """
        try:
            if not source.strip():
                self._remove(tenant)
                return None
            plan, document_text = self._compile(tenant, source, is_news=not retained)
            if self._is_news(plan.policy, retained=retained):
                self._store.save_policy(tenant, plan.policy.version, document_text)
                self._put_in_force(plan, document_text)
            else:
                self._states[tenant] = replace(self._states[tenant], last_rejection=None)
        except InvalidDocument as error:
            self._reject(tenant, Rejected(Code.INVALID_POLICY, _detail(error)), error)
        except Rejected as error:
            self._reject(tenant, error)
        except StoreError as error:
            self._reject(tenant, Rejected(Code.ENGINE_FAILED, str(error)))
        except EngineClosed:
            raise
        except Exception as error:  # noqa: BLE001 - it is logged, and its sender learns of it
            # A policy that ended this thread would come again, and end it after every restart.
            _log.exception("tenant %s: a policy could not be taken in", tenant)
            self._reject(tenant, Rejected(Code.ENGINE_FAILED, f"it was not taken in: {error!r}"))
        return self._states[tenant]

    def renew(self, engine: Engine) -> list[PolicyState]:
        """Makes the plans for a new generation of an engine, all at once; what is to be told.

        A policy that does not fit it any more stays with the tenant, without being in force.
        """
        plans, stage_times_s = dict(self.plans), self._stage_times_s(engine)
        tenants = self._tenants_on(engine.name)
        for tenant, policy in tenants.items():
            try:
                plans[tenant] = compile_plan(policy, engine)
                self._misfits.pop(tenant, None)
                self._states[tenant] = _described(
                    self._states[tenant], plans[tenant], stage_times_s
                )
            except Faulty as error:
                self._misfits[tenant] = policy
                plans.pop(tenant, None)
                self._states[tenant] = replace(
                    self._states[tenant],
                    out_of_service=f"the policy does not fit the engine {engine.name} as it is"
                    f" now: {error}. Push one that does",
                )
        if tenants:
            self._swap(plans)
        return [self._states[tenant] for tenant in tenants]

    def take_out(self, engine: str, sentence: str) -> list[PolicyState]:
        """Notes that an engine does not serve, as the sentence says; what is to be told."""
        tenants = self._tenants_on(engine)
        for tenant in tenants:
            self._states[tenant] = replace(self._states[tenant], out_of_service=sentence)
        return [self._states[tenant] for tenant in tenants]

    def plan(self, tenant: str) -> Plan:
        """The plan that a tenant's requests are served by. Raises Rejected where there is none."""
        plan = self.plans.get(tenant)
        if plan is not None:
            return plan
        if tenant in self._misfits:
            sentence = self._states[tenant].out_of_service or ""
            raise Rejected(Code.NOT_FOUND, sentence)
        raise Rejected(
            Code.NOT_FOUND,
            f"no policy is in force for the tenant {tenant!r}: push one to its policy/set",
        )

    def _tenants_on(self, engine: str) -> dict[str, Policy]:
        policies = {tenant: plan.policy for tenant, plan in self.plans.items()} | self._misfits
        return {tenant: policy for tenant, policy in policies.items() if policy.engine == engine}

    def _compile(
        self, tenant: str, source: str | bytes, *, is_news: bool = True
    ) -> tuple[Plan, str]:
        document = parse_policy_document(source)
        policy = read_policy(document, tenant=tenant)
        if is_news:
            self._shelf.bring_back(policy.engine)
        engine = self._engine(policy.engine, document)
        try:
            plan = compile_plan(policy, engine)
        except Faulty as error:
            raise InvalidDocument(document.locate(error.faults)) from error
        return plan, source if isinstance(source, str) else source.decode("utf-8-sig")

    def _engine(self, name: str, document: Document) -> Engine:
        try:
            return self._shelf.engine(name)
        except EngineError as error:
            fault = Fault(path=("engine",), message=str(error))
            raise InvalidDocument(document.locate([fault])) from error

    def _is_news(self, policy: Policy, *, retained: bool) -> bool:
        """Whether a policy is to replace the one in force. Raises Rejected where it is stale."""
        plan = self.plans.get(policy.tenant)
        if plan is None or policy.version > plan.policy.version:
            return True
        if policy == plan.policy or retained:
            return False
        raise Rejected(
            Code.STALE_VERSION,
            f"version {plan.policy.version} is in force: push a version above it",
        )

    def _put_in_force(self, plan: Plan, document_text: str) -> None:
        policy = plan.policy
        self._misfits.pop(policy.tenant, None)
        self._swap({**self.plans, policy.tenant: plan})
        accepted = PolicyState(
            tenant=policy.tenant,
            appliance=self._appliance,
            version=policy.version,
            engine=policy.engine,
            accepted_at=self._now(),
            document=document_text,
        )
        stage_times_s = self._stage_times_s(plan.engine)
        self._states[policy.tenant] = _described(accepted, plan, stage_times_s)
        _log.info("tenant %s: policy version %d is in force", policy.tenant, policy.version)

    def _remove(self, tenant: str) -> None:
        if tenant not in self.plans and tenant not in self._states:
            return
        self._store.remove_policy(tenant)
        self.withdraw(tenant)
        _log.info("tenant %s: the policy is removed", tenant)

    def withdraw(self, tenant: str) -> None:
        """Takes a policy out of force that the store does not hold any more."""
        self._swap({name: plan for name, plan in self.plans.items() if name != tenant})
        self._states.pop(tenant, None)
        self._misfits.pop(tenant, None)

    def _reject(
        self, tenant: str, rejected: Rejected, invalid: InvalidDocument | None = None
    ) -> None:
        nothing_in_force = PolicyState(tenant=tenant, appliance=self._appliance, version=None)
        self._states[tenant] = replace(
            self._states.get(tenant, nothing_in_force),
            last_rejection=PolicyRejection(
                code=int(rejected.code),
                reason=rejected.code.reason,
                detail=rejected.detail,
                rejected_at=self._now(),
                errors=() if invalid is None else invalid.problems[:MAX_PROBLEMS],
            ),
        )
        _log.warning("tenant %s: a policy is turned away: %s", tenant, rejected.detail)
        if tenant not in self.plans and tenant not in self._misfits:
            self._forget_refused()

    def _forget_refused(self) -> None:
        """Forgets the state that was told first, where too many have nothing in force."""
        known = self.plans.keys() | self._misfits.keys()
        if len(self._states) > len(known) + MOST_REFUSED:
            del self._states[next(tenant for tenant in self._states if tenant not in known)]

    def _swap(self, plans: dict[str, Plan]) -> None:
        self.plans = MappingProxyType(plans)
        self._publish(self.plans)

    def _now(self) -> str:
        return iso(self._wall_clock())


def _detail(error: InvalidDocument) -> str:
    count = len(error.problems)
    listed = InvalidDocument(error.problems[:MAX_PROBLEMS])
    first = f", the first {MAX_PROBLEMS}" * (count > MAX_PROBLEMS)
    return f"{count} problem{'s' * (count > 1)}{first}: {listed}"


def _described(state: PolicyState, plan: Plan, stage_times_s: Sequence[float]) -> PolicyState:
    """A policy's state with what its exits cost on the engine that is open now."""
    exits = exits_of(plan, stage_times_s)
    outlooks = tuple(
        ExitOutlook(
            exit=exit_.exit,
            response_time_ms=_milli(exit_.response_time_s),
            energy_mj=_milli(exit_.energy_j),
            accuracy=exit_.accuracy,
            reachable=exit_.reachable,
            dominated=exit_.dominated,
            broken=exit_.broken,
        )
        for exit_ in exits
    )
    found = tuple(conflicts(plan, exits))
    return replace(state, feasibility=outlooks, conflicts=found, out_of_service=None)


def _milli(value: float | None) -> float | None:
    return None if value is None else round(value * 1e3, 6)
