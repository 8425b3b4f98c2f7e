"""What Home Assistant makes of discovery messages, by rules transcribed from its source.

They are those of `components/mqtt/schemas.py`, `discovery.py` and `sensor.py` and of the tables in
`components/sensor/const.py` as of 2025; the package itself does not install beside ours, since its
releases with device-based discovery need Python 3.13. A message that it would refuse fails here;
keys that it would pass over, as misspelt ones, fail too.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

TOPIC = re.compile(r"homeassistant/device/([a-zA-Z0-9_-]+)/config")

LONG = {
    "dev": "device", "o": "origin", "cmps": "components", "avty": "availability",
    "stat_t": "state_topic", "t": "topic", "val_tpl": "value_template", "p": "platform",
    "uniq_id": "unique_id", "dev_cla": "device_class", "stat_cla": "state_class",
    "unit_of_meas": "unit_of_measurement", "ic": "icon", "ent_cat": "entity_category",
    "exp_aft": "expire_after",
}  # fmt: skip
LONG_OF_DEVICE = {"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sw": "sw_version"}

ROOT = {"device", "origin", "components", "availability", "availability_mode", "state_topic", "qos"}
DEVICE = {"identifiers", "connections", "name", "manufacturer", "model", "sw_version", "via_device"}
ORIGIN = {"name", "sw_version", "support_url"}
AVAILABILITY = {"topic", "payload_available", "payload_not_available", "value_template"}
ENTITY = {
    "platform", "unique_id", "name", "icon", "device_class", "value_template", "entity_category",
    "expire_after",
}  # fmt: skip
OPTIONS = {
    "sensor": ENTITY | {"state_class", "unit_of_measurement"},
    "binary_sensor": ENTITY | {"payload_on", "payload_off"},
}
UNITS: Mapping[str | None, set[str]] = {
    "power": {"mW", "W", "kW", "MW", "GW", "TW"},
    "energy": {"J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh"},
    "temperature": {"°C", "°F", "K"},
    "duration": {"d", "h", "min", "s", "ms", "µs"},
}
STATE_CLASSES: Mapping[str | None, set[str]] = {
    "power": {"measurement"},
    "energy": {"total", "total_increasing"},
    "temperature": {"measurement"},
    "duration": {"measurement", "total", "total_increasing"},
    None: {"measurement", "total", "total_increasing"},
}
DEVICE_CLASSES = {
    "sensor": {"power", "energy", "temperature", "duration"},
    "binary_sensor": {"problem"},
}


@dataclass(kw_only=True)
class Entity:
    """One that was discovered, with what it shows."""

    options: Mapping[str, Any]
    device: Mapping[str, Any]
    state_topic: str
    availability: Mapping[str, str]
    state: str | None = None
    available: bool = False

    def receive(self, payload: str) -> None:
        """Takes in a message on the state topic."""
        shown = rendered(self.options["value_template"], payload, state=self.state or "unknown")
        numeric = "state_class" in self.options
        if shown == "" and numeric:
            return
        self.state = None if shown == "None" else shown
        if numeric and self.state is not None:
            float(self.state)
        if self.options["platform"] == "binary_sensor":
            assert self.state in ("ON", "OFF")
        assert self.state is None or len(self.state) <= 255


@dataclass(kw_only=True)
class HomeAssistant:
    """Takes in what is published, and shows which entities there are."""

    documents: dict[str, bytes] = field(default_factory=dict)
    entities: dict[str, Entity] = field(default_factory=dict)

    def receive(self, topic: str, payload: bytes) -> None:
        """Takes in any message."""
        if topic.startswith("homeassistant/device/"):
            self._discover(topic, payload)
            return
        for entity in self.entities.values():
            if topic == entity.availability["topic"]:
                template = entity.availability["value_template"]
                entity.available = rendered(template, payload.decode()) == "online"
            elif topic == entity.state_topic:
                entity.receive(payload.decode())

    def entity(self, device: str, name: str) -> Entity:
        """The entity of a device by its name."""
        (found,) = [
            entity
            for entity in self.entities.values()
            if entity.device["name"] == device and entity.options["name"] == name
        ]
        return found

    def devices(self) -> set[str]:
        return {entity.device["name"] for entity in self.entities.values()}

    def _discover(self, topic: str, payload: bytes) -> None:
        assert TOPIC.fullmatch(topic), topic
        gone = {
            unique_id: entity
            for unique_id, entity in self.entities.items()
            if topic in self.documents and entity.options in self._options(self.documents[topic])
        }
        for unique_id in gone:
            del self.entities[unique_id]
        self.documents.pop(topic, None)
        if payload:
            self.documents[topic] = payload
            self._set_up(json.loads(payload), gone)

    def _options(self, payload: bytes) -> list[Mapping[str, Any]]:
        document = _spelt_out(json.loads(payload), LONG)
        return [_spelt_out(component, LONG) for component in document["components"].values()]

    def _set_up(self, short: Mapping[str, Any], before: Mapping[str, Entity]) -> None:
        document = _spelt_out(short, LONG)
        device = _spelt_out(document["device"], LONG_OF_DEVICE)
        origin = _spelt_out(document["origin"], LONG_OF_DEVICE)
        (availability,) = (_spelt_out(one, LONG) for one in document["availability"])
        assert document.keys() <= ROOT
        assert device.keys() <= DEVICE
        assert device["identifiers"]
        assert origin.keys() <= ORIGIN
        assert origin["name"]
        assert availability.keys() <= AVAILABILITY
        for short_component in document["components"].values():
            options = _spelt_out(short_component, LONG)
            _check(options)
            assert options["unique_id"] not in self.entities
            old = before.get(options["unique_id"])
            self.entities[options["unique_id"]] = Entity(
                options=options,
                device=device,
                state_topic=document["state_topic"],
                availability=availability,
                state=None if old is None else old.state,
            )


def _check(options: Mapping[str, Any]) -> None:
    platform, device_class = options["platform"], options.get("device_class")
    assert options.keys() <= OPTIONS[platform], options.keys() - OPTIONS[platform]
    assert isinstance(options["unique_id"], str)
    assert device_class is None or device_class in DEVICE_CLASSES[platform]
    if "state_class" in options:
        assert options["state_class"] in STATE_CLASSES[device_class]
    if device_class in UNITS:
        assert options["unit_of_measurement"] in UNITS[device_class]
    assert options.get("entity_category") in (None, "diagnostic")
    assert options.get("icon", "mdi:").startswith("mdi:")
    assert isinstance(options["expire_after"], int)
    assert options["expire_after"] > 0


def rendered(template: str, payload: str, *, state: str = "unknown") -> str:
    """A template as Home Assistant renders it: in a sandbox, with the payload as text and parsed.

    Stricter than there, nothing may be undefined.
    """
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    variables: dict[str, Any] = {"value": payload, "this": SimpleNamespace(state=state)}
    with contextlib.suppress(json.JSONDecodeError):
        variables["value_json"] = json.loads(payload)
    return environment.from_string(template).render(variables).strip()


def _spelt_out(short: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in short.items()}
