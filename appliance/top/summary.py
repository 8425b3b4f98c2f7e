"""The fleet in a few figures, and in rows."""

from __future__ import annotations

from collections import defaultdict

from rich.text import Text

from appliance.fleet.appliances import Standing
from appliance.fleet.fleet import Summary
from appliance.fleet.words import NOTHING, number, percent, short
from appliance.top.look import Look
from appliance.top.rows import Row, appliance_row, standing_text, tenant_row

EMPTY = (
    "No appliance has been heard of yet. Start one with `delen serve`, with this broker in its"
    " DELEN_MQTT_HOST and this prefix in its DELEN_TOPIC_PREFIX; it is here a moment later."
)


def summary_text(summary: Summary, *, unread: int) -> Text:
    """The fleet in two lines."""
    text = Text()
    for standing in Standing:
        count = summary.standings[standing]
        if count or standing is Standing.ONLINE:
            sign_and_word, style = standing_text(standing)
            sign, word = sign_and_word.split(" ", 1)
            text.append(sign, style).append(f" {count} {word}   ")
    text.append("power ").append(number(summary.power_w, "W"), "bold")
    text.append("   requests ").append(number(summary.rate_per_s, "/s"), "bold")
    text.append("\nworst bound kept ")
    worst = summary.worst
    if worst is None:
        text.append(f"{NOTHING} nothing was answered in the last minute")
    else:
        text.append(percent(worst.bound_kept), "bold")
        text.append(f" {short(worst.tenant)} on {short(worst.appliance)}")
    if unread:
        text.append(f"   ! messages not taken in: {unread}", "yellow")
    return text


def appliance_rows(look: Look, summary: Summary) -> list[Row]:
    """All appliances."""
    kept: defaultdict[str, list[float | None]] = defaultdict(list)
    for key in look.fleet.tenants:
        kept[key[0]].append(summary.bounds_kept.get(key))
    views = sorted(look.fleet.appliances.values(), key=lambda view: view.name)
    return [appliance_row(view, look.now_s, kept[view.name]) for view in views]


def tenant_rows(look: Look) -> list[Row]:
    """All tenants of all appliances."""
    views = sorted(look.fleet.tenants.values(), key=lambda view: (view.name, view.appliance))
    return [tenant_row(view, look.now_s, with_appliance=True) for view in views]
