"""The documents by which Home Assistant learns of the appliance and of each of its tenants.

Each of them is one of its devices, by device-based MQTT discovery (Home Assistant 2024.11 and
newer), and reads what telemetry says anyway. Names are those of
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, most of them abbreviated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from appliance.topics import Topics

VERSION = version("delen")

Component = Mapping[str, Any]
"""One entity of a device."""

MEASUREMENT = {"stat_cla": "measurement"}
ENERGY = {"dev_cla": "energy", "stat_cla": "total_increasing"}
"""A count of joules begins anew with the process, and Home Assistant takes a fall for that."""

DIAGNOSTIC = {"ent_cat": "diagnostic"}

OF_TENANT: Mapping[str, Component] = {
    "rate": {
        "p": "sensor",
        "name": "Requests",
        "ic": "mdi:speedometer",
        "unit_of_meas": "req/s",
        "val_tpl": "{{ value_json.rate_per_s }}",
        **MEASUREMENT,
    },
    "response_time": {
        "p": "sensor",
        "name": "Response time p95",
        "dev_cla": "duration",
        "unit_of_meas": "ms",
        "val_tpl": "{{ value_json.response_time_ms.p95 | default(none) }}",
        **MEASUREMENT,
    },
    "answer": {
        "p": "sensor",
        "name": "Last answer",
        "ic": "mdi:tag-text-outline",
        # A window without an answer leaves what was there.
        "val_tpl": "{{ this.state if value_json.last_label is none else value_json.last_label }}",
    },
    "energy": {
        "p": "sensor",
        "name": "Energy",
        "unit_of_meas": "Wh",
        "val_tpl": "{{ (value_json.charged_j / 3600) | round(6) }}",
        **ENERGY,
    },
    "budget": {
        "p": "sensor",
        "name": "Budget left",
        "ic": "mdi:battery-heart-variant",
        "unit_of_meas": "%",
        "val_tpl": "{{ none if value_json.budget is none"
        " else (value_json.budget.remaining * 100) | round(1) }}",
        **MEASUREMENT,
    },
    "rejections": {
        "p": "sensor",
        "name": "Rejections",
        "ic": "mdi:cancel",
        "unit_of_meas": "1/min",
        "val_tpl": "{{ (value_json.rejected / value_json.window_s * 60) | round(2) }}",
        **MEASUREMENT,
    },
}

OF_APPLIANCE: Mapping[str, Component] = {
    "power": {
        "p": "sensor",
        "name": "Power",
        "dev_cla": "power",
        "unit_of_meas": "W",
        "val_tpl": "{{ value_json.power.power_w }}",
        **MEASUREMENT,
    },
    "energy": {
        "p": "sensor",
        "name": "Energy",
        "unit_of_meas": "kWh",
        "val_tpl": "{{ (value_json.energy.integrated_j / 3600000) | round(9) }}",
        **ENERGY,
    },
    "temperature": {
        "p": "sensor",
        "name": "Temperature",
        "dev_cla": "temperature",
        "unit_of_meas": "°C",
        "val_tpl": "{{ value_json.power.temperatures_c.values() | max | default(none) }}",
        **MEASUREMENT,
    },
    "queue": {
        "p": "sensor",
        "name": "Queue",
        "ic": "mdi:tray-full",
        "unit_of_meas": "requests",
        "val_tpl": "{{ value_json.queue_length }}",
        **MEASUREMENT,
    },
    "log": {
        "p": "binary_sensor",
        "name": "Log",
        "dev_cla": "problem",
        "val_tpl": "{{ 'OFF' if value_json.log_failure is none else 'ON' }}",
        **DIAGNOSTIC,
    },
    "engines": {
        "p": "binary_sensor",
        "name": "Engines",
        "dev_cla": "problem",
        "val_tpl": "{{ 'ON' if value_json.out_of_service else 'OFF' }}",
        **DIAGNOSTIC,
    },
    "meter": {
        "p": "sensor",
        "name": "Meter",
        "ic": "mdi:meter-electric-outline",
        "val_tpl": "{{ value_json.meter }}",
        **DIAGNOSTIC,
    },
}


def identifier(appliance: str, tenant: str | None = None) -> str:
    """An identifier of letters, digits, `-` and `_` alone, another one for every other name.

    Whatever else a name holds becomes `_` and two hexadecimal digits for each byte, so that no
    name comes to `__`, which stands between the two.
    """
    names = (appliance,) if tenant is None else (appliance, tenant)
    return "delen_" + "__".join(map(_escaped, names))


def _escaped(name: str) -> str:
    return re.sub(
        r"[^A-Za-z0-9-]",
        lambda found: "".join(f"_{byte:02x}" for byte in found[0].encode()),
        name,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Discovery:
    """Makes the documents of one appliance, each on its topic below `prefix`."""

    prefix: str
    topics: Topics
    appliance: str
    expire_after_s: int
    """After so long without telemetry, what it last said counts no more."""

    def birth(self) -> str:
        """Where Home Assistant says `online` when it has started."""
        return f"{self.prefix}/status"

    def documents(self, tenants: Iterable[str]) -> dict[str, bytes]:
        """The documents by topic, the appliance's own first."""
        return dict([self._of_appliance(), *map(self._of_tenant, tenants)])

    def _of_appliance(self) -> tuple[str, bytes]:
        device = {"name": f"Dělen {self.appliance}", "mdl": "edge appliance"}
        state_topic = self.topics.appliance_telemetry(self.appliance)
        return self._document(identifier(self.appliance), device, state_topic, OF_APPLIANCE)

    def _of_tenant(self, tenant: str) -> tuple[str, bytes]:
        device = {
            "name": f"{tenant} on {self.appliance}",
            "mdl": "tenant",
            "via_device": identifier(self.appliance),
        }
        state_topic = self.topics.telemetry(tenant, self.appliance)
        return self._document(identifier(self.appliance, tenant), device, state_topic, OF_TENANT)

    def _document(
        self,
        device_id: str,
        device: Mapping[str, str],
        state_topic: str,
        components: Mapping[str, Component],
    ) -> tuple[str, bytes]:
        document = {
            "dev": {"ids": [device_id], **device, "mf": "Dělen", "sw": VERSION},
            "o": {"name": "Dělen", "sw": VERSION},
            "avty": [
                {
                    "t": self.topics.appliance_status(self.appliance),
                    # `stopped` is not there either.
                    "val_tpl": "{{ 'online' if value == 'online' else 'offline' }}",
                }
            ],
            "stat_t": state_topic,
            "cmps": {
                name: {
                    **component,
                    "uniq_id": f"{device_id}__{name}",
                    "exp_aft": self.expire_after_s,
                }
                for name, component in components.items()
            },
        }
        payload = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        return f"{self.prefix}/device/{device_id}/config", payload
