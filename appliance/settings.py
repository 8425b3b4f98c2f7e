"""Settings: environment DELEN_*, then delen.yaml; read once, frozen, passed in."""

from __future__ import annotations

import difflib
import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from appliance.device_budget import DeviceBudget, parse_device_budget
from appliance.errors import SettingsError
from appliance.fields import quantity, sentence_error
from appliance.quantities import Dimension, QuantityError, parse_quantity
from appliance.topics import level_fault

PREFIX = "DELEN_"
FILE = Path("delen.yaml")

BackendName = Literal["auto", "tensorrt", "onnx", "onnx-tensorrt", "onnx-cuda"]


def _level(name: str) -> str:
    fault = level_fault(name)
    if fault is not None:
        raise sentence_error(f"{name!r} cannot stand in a topic: {fault}")
    return name


def _prefix(prefix: str) -> str:
    for level in prefix.split("/"):
        _level(level)
    return prefix


def _device_budget(text: object) -> object:
    if text is None or isinstance(text, DeviceBudget):
        return text
    try:
        return parse_device_budget(text)
    except QuantityError as error:
        raise sentence_error(str(error)) from error


def _size(text: object) -> float | None:
    if text is None:
        return None
    try:
        size_bytes = parse_quantity(text, Dimension.SIZE)
    except QuantityError as error:
        raise sentence_error(str(error)) from error
    if size_bytes <= 0:
        raise sentence_error("a size is above zero; leave it out for no limit")
    return size_bytes


def _this_machine() -> str:
    return re.sub(r"[^\w.-]", "-", socket.gethostname()) or "appliance"


class Settings(BaseSettings):
    """What the operator decides. Times in seconds, sizes in bytes; `40ms` and `8MB` are read."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, yaml_file=FILE, frozen=True, extra="forbid", env_ignore_empty=True
    )

    appliance_id: Annotated[str, AfterValidator(_level)] = Field(default_factory=_this_machine)
    """The name of this box in topics and results."""
    mqtt_host: str = "localhost"
    mqtt_port: int = Field(default=1883, ge=1, le=65_535)
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    mqtt_password_file: Path | None = None
    """A file whose content is the password, as Docker secrets are."""
    mqtt_tls_ca: Path | None = None
    """The certificate authority of the broker; where it is set, the connection is TLS."""
    topic_prefix: Annotated[str, AfterValidator(_prefix)] = "delen/v1"
    engines: Path = Path("engines")
    conditions: Path = Path("conditions")
    """Policies here are loaded at start for tenants that never had one."""
    database: Path = Path("delen.db")
    health_file: Path | None = None
    """Where the appliance tells `delen health` how it stands; by default nowhere."""
    passwords: Path = Path("secrets/broker/passwords")
    """The broker's password file, which `delen tenant` changes."""
    backend: BackendName = "auto"
    """What runs the stages; `auto` takes TensorRT where it works, else ONNX Runtime on the CPU."""
    compile: Literal["auto", "never"] = "never"
    """Whether TensorRT plans that are missing here are built before serving starts."""
    plans: Path | None = None
    """Where TensorRT plans are kept; by default in each engine's own folder."""
    meter: Literal["auto", "tegrastats", "ina3221", "jtop", "rapl", "nvml", "modelled"] = "auto"
    """Where power readings come from; `auto` takes the first in this order that works."""
    meter_interval: Annotated[float, quantity(Dimension.TIME), Field(ge=0.01, le=0.5)] = 0.1
    """The time between two readings."""
    tegrastats: str = "tegrastats"
    """The program, with arguments where it needs some."""
    device_budget: Annotated[DeviceBudget | None, BeforeValidator(_device_budget)] = None
    """What all tenants together may spend, as `2kJ per 1h`."""
    engine_memory: Annotated[float | None, BeforeValidator(_size)] = None
    """What the engines that are open may take together; those not used for longest make room."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """Threads of one ONNX Runtime stage; by default all cores but one."""
    max_frame: Annotated[float, quantity(Dimension.SIZE), Field(ge=1024)] = 10e6
    """The largest frame that is accepted."""
    receive_maximum: int = Field(default=64, ge=1, le=65_535)
    """How many QoS 1 frames the broker may have outstanding here at a time."""
    session_expiry: Annotated[float, quantity(Dimension.TIME), Field(ge=0)] = 86_400.0
    """How long the broker keeps frames for an appliance that is away."""
    log_max_age: Annotated[float, quantity(Dimension.TIME), Field(ge=60)] = 30 * 86_400.0
    log_max_size: Annotated[float, quantity(Dimension.SIZE), Field(ge=1e6)] = 512e6
    telemetry_interval: Annotated[float, quantity(Dimension.TIME), Field(ge=0.1)] = 10.0
    dashboard_host: str = "127.0.0.1"
    """Where `delen dashboard` listens; elsewhere than on this machine only with a password."""
    dashboard_port: int = Field(default=8088, ge=1, le=65_535)
    dashboard_password: SecretStr | None = None
    """With it people log in, and may push policies; without it the dashboard is read-only."""
    dashboard_password_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)

    def password(self) -> str | None:
        """The broker's password, from the setting or from the file. Raises SettingsError."""
        return _secret(self.mqtt_password, self.mqtt_password_file, "MQTT_PASSWORD_FILE")

    def dashboard_secret(self) -> str | None:
        """The dashboard's password, from the setting or from the file. Raises SettingsError."""
        secret = _secret(
            self.dashboard_password, self.dashboard_password_file, "DASHBOARD_PASSWORD_FILE"
        )
        if secret == "":
            raise SettingsError("DELEN_DASHBOARD_PASSWORD_FILE is empty: write a password into it")
        return secret


def _secret(value: SecretStr | None, file: Path | None, name: str) -> str | None:
    if value is not None:
        return value.get_secret_value()
    if file is None:
        return None
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PREFIX}{name} cannot be read: {error}") from error


def read_settings(**overrides: object) -> Settings:
    """The settings; what is given here goes before the environment, which goes before the file.

    Raises SettingsError with all that is wrong, a line each.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [_line(str(part["loc"][0]), part["msg"], part["type"]) for part in error.errors()]
        raise SettingsError("\n".join(lines)) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{FILE} is no YAML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{FILE} cannot be read: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:  # what pydantic makes of the rest
        raise SettingsError(f"{FILE} must hold a setting a line, as `mqtt_host: broker`") from error


def unknown_variables() -> list[str]:
    """Sentences on DELEN_* variables of the environment that name no setting."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    sentences = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            sentences.append(f"{name} is no setting and has no effect{hint}")
    return sentences


def _line(field: str, message: str, kind: str) -> str:
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(field, Settings.model_fields, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        return f"{FILE}: there is no setting `{field}`{hint}"
    return f"{PREFIX}{field.upper()} (or `{field}` in {FILE}): {message}"
