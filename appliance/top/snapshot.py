"""The picture as JSON: one object, with telemetry as it was on the wire."""

from __future__ import annotations

from typing import Any

from appliance.fleet.appliances import ApplianceView
from appliance.fleet.fleet import Summary
from appliance.fleet.tenants import TenantView
from appliance.picture import Picture
from appliance.replies import iso
from appliance.telemetry import APPLIANCE_TELEMETRY, TENANT_TELEMETRY


def snapshot(picture: Picture, now_s: float) -> dict[str, Any]:
    """Everything that is known now, for programs to read."""
    fleet, link = picture.fleet, picture.watcher.link
    summary = fleet.summary(now_s)
    return {
        "at": iso(now_s),
        "connected": link.connected,
        "failure": link.failure,
        "fleet": _fleet(summary),
        "appliances": [_appliance(view, now_s) for _, view in sorted(fleet.appliances.items())],
        "tenants": [_tenant(view, now_s) for _, view in sorted(fleet.tenants.items())],
        "unreadable": fleet.faulty,
        "left_out": fleet.left_out + picture.watcher.left_out,
    }


def _fleet(summary: Summary) -> dict[str, Any]:
    worst = summary.worst
    return {
        "appliances": {standing.value: n for standing, n in summary.standings.items()},
        "power_w": summary.power_w,
        "rate_per_s": round(summary.rate_per_s, 3),
        "worst_bound_kept": worst
        and {
            "tenant": worst.tenant,
            "appliance": worst.appliance,
            "bound_kept": round(worst.bound_kept, 5),
        },
    }


def _appliance(view: ApplianceView, now_s: float) -> dict[str, Any]:
    told = view.telemetry
    return {
        "appliance": view.name,
        "standing": view.standing(now_s).value,
        "heard_at": iso(view.heard_s),
        "clock_off_s": view.clock_off_s,
        "telemetry": told and APPLIANCE_TELEMETRY.dump_python(told, mode="json"),
    }


def _tenant(view: TenantView, now_s: float) -> dict[str, Any]:
    state, told, kept = view.state, view.telemetry, view.bound_kept(now_s)
    refused = None if state is None else state.last_rejection
    return {
        "tenant": view.name,
        "appliance": view.appliance,
        "heard_at": iso(view.heard_s),
        "bound_kept": None if kept is None else round(kept, 5),
        "policy": state
        and {
            "version": state.version,
            "engine": state.engine,
            "out_of_service": state.out_of_service,
            "last_rejection": refused
            and {"code": refused.code, "reason": refused.reason, "detail": refused.detail},
        },
        "telemetry": told and TENANT_TELEMETRY.dump_python(told, mode="json"),
    }
