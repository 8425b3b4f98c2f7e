"""What an operator should know of an appliance or a tenant, in sentences."""

from __future__ import annotations

from appliance.fleet.appliances import ApplianceView
from appliance.fleet.tenants import TenantView
from appliance.fleet.words import ago, duration, short

_LATE_AFTER_WINDOWS = 3
_ON_THE_WAY_S = 2.0


def appliance_remarks(view: ApplianceView, now_s: float) -> list[str]:
    """What is not as it should be with an appliance, a sentence each."""
    told, remarks = view.telemetry, []
    off_s = view.clock_off_s
    if off_s is not None:
        way = "ahead of" if off_s > 0 else "behind"
        remarks.append(
            f"Its clock is {duration(abs(off_s))} {way} this machine's: times in its results"
            " and log are off by that. What is shown here goes by this machine's clock."
        )
    if told is None:
        return [*remarks, "No telemetry has come yet."]
    late_s = _LATE_AFTER_WINDOWS * told.window_s + _ON_THE_WAY_S
    if view.told_s is not None and now_s - view.told_s > late_s:
        remarks.append(f"Its last telemetry came {ago(now_s - view.told_s)}.")
    said = [
        ("The meter", told.power.failure),
        ("The log", told.log_failure),
        ("The database", told.database_mishap),
        ("The last command", told.command_failure),
        ("Its id", told.id_conflict),
    ]
    remarks += [f"{what}: {short(why)}" for what, why in said if why]
    if told.unlogged:
        remarks.append(f"{told.unlogged} replies of QoS 0 found no room in the log.")
    if told.unsent:
        remarks.append(f"{told.unsent} replies and readings of QoS 0 were not taken by the broker.")
    return remarks


def policy_sentence(view: TenantView) -> str:
    """What is in force for a tenant."""
    state, told = view.state, view.telemetry
    if state is None or state.version is None:
        return "No policy is in force."
    mode = f", in its mode {short(told.mode)}" if told is not None and told.mode else ""
    return f"Policy version {state.version} on {short(state.engine or '')} is in force{mode}."


def tenant_fault(view: TenantView) -> str | None:
    """Why a tenant gets no answers, or why its last push was turned away; None for neither."""
    state = view.state
    if state is None:
        return None
    if state.out_of_service is not None:
        return short(state.out_of_service)
    refused = state.last_rejection
    if refused is not None:
        return short(
            f"The last push was turned away: {refused.code} {refused.reason}: {refused.detail}"
        )
    return None
