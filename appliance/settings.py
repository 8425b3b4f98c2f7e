"""Settings: environment DELEN_*, then delen.yaml; read once, frozen, passed in."""

from __future__ import annotations

import difflib
import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from typing_extensions import Self

from appliance.device_budget import DeviceBudget, parse_device_budget
from appliance.errors import SettingsError
from appliance.fields import DEFINITION, quantity, sentence_error, written_as
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


def _optional(dimension: Dimension) -> BeforeValidator:
    """Reads a limit that there may be none of."""

    def read(text: object) -> float | None:
        if text is None:
            return None
        try:
            limit = parse_quantity(text, dimension)
        except QuantityError as error:
            raise sentence_error(str(error)) from error
        if limit <= 0:
            raise sentence_error(f"{text} is not above zero; leave it out for no limit")
        return limit

    written = written_as(f"Positive{dimension.name.title()}") | None
    return BeforeValidator(read, json_schema_input_type=written)


def _this_machine() -> str:
    return re.sub(r"[^\w.-]", "-", socket.gethostname()) or "appliance"


TopicLevel = Annotated[str, AfterValidator(_level), WithJsonSchema({DEFINITION: "Level"})]


class Settings(BaseSettings):
    """What the operator decides. Times in seconds, sizes in bytes; `40ms` and `8MB` are read."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, yaml_file=FILE, frozen=True, extra="forbid", env_ignore_empty=True
    )

    appliance_id: TopicLevel = Field(default_factory=_this_machine)
    """The name of this box in topics and results."""
    mqtt_host: str = "localhost"
    """Where the broker is."""
    mqtt_port: int = Field(default=1883, ge=1, le=65_535)
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    mqtt_password_file: Path | None = None
    """A file whose content is the password, as Docker secrets are."""
    mqtt_tls_ca: Path | None = None
    """The certificate authority of the broker; where it is set, the connection is TLS."""
    mqtt_tls_cert: Path | None = None
    """A client certificate, with the chain where there is one; it takes `mqtt_tls_ca` as well."""
    mqtt_tls_key: Path | None = None
    """Its key, unencrypted."""
    topic_prefix: Annotated[str, AfterValidator(_prefix)] = "delen/v1"
    """What all topics start with."""
    cloudevents: bool = False
    """Whether replies carry the attributes of CloudEvents as MQTT 5 user properties."""
    engines: Path = Path("engines")
    """The folder of engine folders."""
    conditions: Path = Path("conditions")
    """Policies here are loaded at start for tenants that never had one."""
    database: Path = Path("delen.db")
    """The SQLite file: policies and the inference log."""
    backup: Path | None = None
    """The folder of the backups; by default beside the database, `delen.db.backups`."""
    backup_every: Annotated[float, quantity(Dimension.TIME), Field(ge=60)] = 86_400.0
    backup_keep: int = Field(default=3, ge=0, le=1000)
    """How many of the backups that are taken by themselves stay; 0 for none at all."""
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
    device_budget: Annotated[
        DeviceBudget | None,
        BeforeValidator(_device_budget, json_schema_input_type=written_as("DeviceBudget") | None),
    ] = None
    """What all tenants together may spend, as `2kJ per 1h`."""
    engine_memory: Annotated[float | None, _optional(Dimension.SIZE)] = None
    """What the engines that are open may take together; those not used for longest make room."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """Threads of one ONNX Runtime stage; by default all cores but one."""
    stage_timeout: Annotated[float, quantity(Dimension.TIME), Field(ge=0.1)] = 60.0
    """How long one stage may run before the appliance ends, to be started again."""
    opening_timeout: Annotated[float, quantity(Dimension.TIME), Field(ge=0.1)] = 1800.0
    """How long the opening of an engine may take before it ends as well."""
    max_frame: Annotated[float, quantity(Dimension.SIZE), Field(ge=1024)] = 10e6
    """The largest frame that is accepted."""
    frame_memory: Annotated[float, quantity(Dimension.SIZE), Field(ge=1e6)] = 256e6
    """What all frames that wait may take together, undecoded and decoded."""
    tenant_rate: Annotated[float | None, _optional(Dimension.RATE)] = None
    """How many requests a second any tenant may send, whatever its policy says."""
    tenant_bytes: Annotated[float | None, _optional(Dimension.BYTE_RATE)] = None
    """How many bytes of frames a second any tenant may send, whatever its policy says."""
    rejection_rate: Annotated[float, quantity(Dimension.RATE), Field(gt=0)] = 100.0
    """How many rejections a second a tenant is sent; the others are counted."""
    receive_maximum: int = Field(default=64, ge=1, le=65_535)
    """How many QoS 1 frames the broker may have outstanding here at a time."""
    session_expiry: Annotated[float, quantity(Dimension.TIME), Field(ge=0)] = 86_400.0
    """How long the broker keeps frames for an appliance that is away."""
    log_max_age: Annotated[float, quantity(Dimension.TIME), Field(ge=60)] = 30 * 86_400.0
    """Rows of the inference log older than this are deleted."""
    log_max_size: Annotated[float, quantity(Dimension.SIZE), Field(ge=1e6)] = 512e6
    """The oldest rows go where the database would outgrow this."""
    commit_interval: Annotated[float, quantity(Dimension.TIME), Field(ge=0, le=1)] = 0.2
    """How long a row of the log waits for others, to be written with them."""
    telemetry_interval: Annotated[float, quantity(Dimension.TIME), Field(ge=0.1)] = 10.0
    """How often telemetry is published."""
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Where Prometheus finds `/metrics`, and others `/healthz`; by default nowhere."""
    metrics_host: str = "127.0.0.1"
    metrics_token: SecretStr | None = None
    """What must be sent as `Authorization: Bearer`; by default nothing."""
    metrics_token_file: Path | None = None
    metrics_tenants: int = Field(default=100, ge=0, le=10_000)
    """How many tenants have metrics of their own; those of the others are summed up."""
    homeassistant: bool = False
    """Whether Home Assistant is told of the appliance and its tenants."""
    homeassistant_prefix: Annotated[str, AfterValidator(_prefix)] = "homeassistant"
    """The discovery prefix that is set there."""
    dashboard_host: str = "127.0.0.1"
    """Where `delen dashboard` listens; elsewhere than on this machine only with a password."""
    dashboard_port: int = Field(default=8088, ge=1, le=65_535)
    dashboard_password: SecretStr | None = None
    """With it people log in, and may push policies; without it the dashboard is read-only."""
    dashboard_password_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From what on the log says it, on standard error."""

    @model_validator(mode="after")
    def _certificates_are_whole(self) -> Self:
        if (self.mqtt_tls_cert is None) != (self.mqtt_tls_key is None):
            raise sentence_error("DELEN_MQTT_TLS_CERT and DELEN_MQTT_TLS_KEY are set together")
        if self.mqtt_tls_cert is not None and self.mqtt_tls_ca is None:
            raise sentence_error("DELEN_MQTT_TLS_CERT needs the broker's CA: set DELEN_MQTT_TLS_CA")
        return self

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

    @property
    def backup_folder(self) -> Path:
        return self.backup or self.database.with_name(f"{self.database.name}.backups")

    def password(self) -> str | None:
        """The broker's password, from the setting or from the file. Raises SettingsError."""
        return _secret("mqtt_password", self.mqtt_password, self.mqtt_password_file)

    def metrics_bearer(self) -> str | None:
        """The token of `/metrics`, from the setting or from the file. Raises SettingsError."""
        token = _secret("metrics_token", self.metrics_token, self.metrics_token_file)
        if token is not None and not token:
            raise SettingsError("DELEN_METRICS_TOKEN (or the file named for it) is empty: set one")
        return token

    def dashboard_secret(self) -> str | None:
        """The dashboard's password, from the setting or from the file. Raises SettingsError."""
        name, file = "dashboard_password", self.dashboard_password_file
        password = _secret(name, self.dashboard_password, file)
        if password is not None and not password:
            raise SettingsError("DELEN_DASHBOARD_PASSWORD (or its file) is empty: set one")
        return password


def _secret(name: str, given: SecretStr | None, file: Path | None) -> str | None:
    """A secret that is set, or the content of the file that is named in its place."""
    if given is not None:
        return given.get_secret_value()
    if file is None:
        return None
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PREFIX}{name.upper()}_FILE cannot be read: {error}") from error


def read_settings(**overrides: object) -> Settings:
    """The settings; what is given here goes before the environment, which goes before the file.

    Raises SettingsError with all that is wrong, a line each.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            _line(str(part["loc"][0]), part["msg"], part["type"]) if part["loc"] else part["msg"]
            for part in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{FILE} is no YAML{_place(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{FILE} cannot be read: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:  # what pydantic makes of the rest
        raise SettingsError(f"{FILE} must hold a setting a line, as `mqtt_host: broker`") from error


def _place(error: yaml.YAMLError) -> str:
    """Where, without what stands there: it may be a password, such as one that starts with `*`."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ""
    hint = "put a value with special characters into quotes"
    return f" in line {mark.line + 1}, column {mark.column + 1}: {hint}"


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
