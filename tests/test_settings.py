"""Settings: environment, then file, all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.settings import read_settings, unknown_variables


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_defaults_serve_a_checkout() -> None:
    settings = read_settings()

    assert (settings.mqtt_host, settings.mqtt_port) == ("localhost", 1883)
    assert settings.engines == Path("engines")
    assert settings.topic_prefix == "delen/v1"
    assert settings.appliance_id


def test_the_environment_goes_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "delen.yaml").write_text("mqtt_port: 1884\nmqtt_host: file\nmax_frame: 2MB\n")
    monkeypatch.setenv("DELEN_MQTT_HOST", "environment")

    settings = read_settings()

    assert (settings.mqtt_host, settings.mqtt_port) == ("environment", 1884)
    assert settings.max_frame == 2e6


def test_all_mistakes_are_said_at_once_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "delen.yaml").write_text("mqtt_prot: 1884\n")
    monkeypatch.setenv("DELEN_MQTT_PORT", "70000")
    monkeypatch.setenv("DELEN_LOG_MAX_AGE", "3 fortnights")
    monkeypatch.setenv("DELEN_APPLIANCE_ID", "a/b")

    with pytest.raises(SettingsError) as error:
        read_settings()

    said = str(error.value)
    assert "DELEN_MQTT_PORT" in said
    assert "DELEN_LOG_MAX_AGE" in said
    assert "DELEN_APPLIANCE_ID" in said
    assert "there is no setting `mqtt_prot`; did you mean `mqtt_port`?" in said


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "delen.yaml").write_text("a: [")

    with pytest.raises(SettingsError, match=r"delen\.yaml is no YAML"):
        read_settings()


@pytest.mark.parametrize("text", ["- 1", "hello", "5", "1: 2"])
def test_a_file_that_holds_no_settings_is_refused(text: str) -> None:
    Path("delen.yaml").write_text(text)

    with pytest.raises(SettingsError, match="must hold a setting a line"):
        read_settings()


def test_the_password_can_come_from_a_file_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("hush\n")
    monkeypatch.setenv("DELEN_MQTT_PASSWORD_FILE", str(tmp_path / "secret"))
    from_file = read_settings()
    monkeypatch.setenv("DELEN_MQTT_PASSWORD", "whisper")
    given = read_settings()

    assert (from_file.password(), given.password()) == ("hush", "whisper")
    assert "whisper" not in repr(given)


def test_a_password_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELEN_MQTT_PASSWORD_FILE", "nowhere")

    with pytest.raises(SettingsError, match="DELEN_MQTT_PASSWORD_FILE"):
        read_settings().password()


def test_an_empty_token_is_refused_since_everybody_has_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")

    with pytest.raises(SettingsError, match="DELEN_METRICS_TOKEN"):
        read_settings(metrics_token_file=tmp_path / "token").metrics_bearer()


def test_a_variable_that_names_no_setting_is_warned_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DELEN_MQTT_HOTS", "x")

    assert unknown_variables() == [
        "DELEN_MQTT_HOTS is no setting and has no effect; did you mean DELEN_MQTT_HOST?"
    ]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("CA", "CERT"), "are set together"),
        (("CA", "KEY"), "are set together"),
        (("CERT", "KEY"), "set DELEN_MQTT_TLS_CA"),
    ],
)
def test_half_of_a_client_certificate_is_refused(
    names: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        monkeypatch.setenv(f"DELEN_MQTT_TLS_{name}", "file")

    with pytest.raises(SettingsError, match=said):
        read_settings()
