"""The settings: where they come from, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from headrace.config import Config, Setting, hash_seed, load, worker_environment
from headrace.errors import ConfigError


def refused(
    flags: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    file: Path | None = None,
) -> str:
    """What `load` says against these settings."""
    with pytest.raises(ConfigError) as error:
        load(flags, environ=environ or {}, file=file)
    return str(error.value)


def test_defaults_alone_are_usable() -> None:
    """Nothing needs to be set: an embedded broker, loopback, no state directory."""
    config = load(environ={})
    assert config == Config()
    assert config.broker == "memory:"
    assert config.grpc_host == "127.0.0.1"
    assert config.state_path() is None


def test_later_sources_win(tmp_path: Path) -> None:
    """Flags go before the environment, that before the file, that before defaults."""
    file = tmp_path / "headrace.toml"
    file.write_text('app = "of-file"\ngrpc_port = 1\nfetch_wait_ms = 7\n')
    environ = {"HEADRACE_APP": "of-environment", "HEADRACE_GRPC_PORT": "2", "PATH": "/bin"}
    config = load({"grpc_port": 3, "broker": None}, file=file, environ=environ)
    assert (config.app, config.grpc_port, config.fetch_wait_ms) == ("of-environment", 3, 7)
    shown = {setting.name: setting for setting in config.describe()}
    assert shown["app"] == Setting("app", "of-environment", "HEADRACE_APP")
    assert shown["grpc_port"] == Setting("grpc_port", "3", "--grpc-port")
    assert shown["fetch_wait_ms"] == Setting("fetch_wait_ms", "7", f"{file}: fetch_wait_ms")
    assert shown["broker"] == Setting("broker", "memory:", "default")


def test_every_setting_is_described() -> None:
    """The table at start leaves out no setting."""
    names = [field.name for field in dataclasses.fields(Config) if field.name != "sources"]
    assert [setting.name for setting in Config().describe()] == names


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    """HEADRACE_CONFIG names the file; a file handed in goes before it."""
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text('app = "first"')
    second.write_text('app = "second"')
    environ = {"HEADRACE_CONFIG": str(first)}
    assert load(environ=environ).app == "first"
    assert load(environ=environ, file=second).app == "second"


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("HEADRACE_METRICS_PORT", "off", "metrics_port", None),
        ("HEADRACE_METRICS_PORT", "9100", "metrics_port", 9100),
        ("HEADRACE_INSECURE", "true", "insecure", True),
        ("HEADRACE_INSECURE", "0", "insecure", False),
        ("HEADRACE_COMMIT_INTERVAL_S", "2", "commit_interval_s", 2.0),
        ("HEADRACE_STATE_DIR", "/var/lib/headrace", "state_dir", Path("/var/lib/headrace")),
        ("HEADRACE_LOG_FORMAT", "json", "log_format", "json"),
    ],
)
def test_text_of_the_environment_gets_its_type(
    variable: str, text: str, name: str, value: object
) -> None:
    """A variable's text becomes a number, a truth value, a path or nothing, as the setting asks."""
    assert getattr(load(environ={variable: text}), name) == value


@pytest.mark.parametrize(
    ("flags", "environ", "hint"),
    [
        ({}, {"HEADRACE_GRPC_PROT": "1"}, "did you mean HEADRACE_GRPC_PORT?"),
        ({"grcp_port": 1}, {}, "did you mean --grpc-port?"),
        ({}, {"HEADRACE_": "1"}, "lists the settings"),
        ({"sources": {}}, {}, "is not a setting"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(
    flags: dict[str, object], environ: dict[str, str], hint: str
) -> None:
    """A name that is no setting is an error that says what was probably meant."""
    assert hint in refused(flags, environ)


def test_unknown_key_of_the_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A misspelt key of the file is named with its file."""
    file = tmp_path / "headrace.toml"
    file.write_text("grpc_prot = 1")
    assert refused(file=file) == f"{file}: grpc_prot: is not a setting (did you mean grpc_port?)"


@pytest.mark.parametrize("content", ["app = ", "\xff\xfe", None])
def test_unreadable_file_is_refused(tmp_path: Path, content: str | None) -> None:
    """A file that is absent or no TOML is refused by name."""
    file = tmp_path / "headrace.toml"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    assert refused(file=file).startswith(f"{file}: cannot be read")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc_port", 65536),
        ("grpc_port", -1),
        ("grpc_port", "http"),
        ("grpc_port", "off"),
        ("app", "Head Race"),
        ("app", ""),
        ("fetch_wait_ms", 0),
        ("commit_interval_s", float("nan")),
        ("session_timeout_s", float("inf")),
        ("log_level", "loud"),
        ("state_dir", ""),
        ("insecure", "perhaps"),
        ("message_bytes_max", 10),
    ],
)
def test_value_out_of_bounds_is_refused(name: str, value: object) -> None:
    """A value of the wrong type or outside its bounds is refused, with the value and the flag."""
    text = refused({name: value})
    assert text.startswith(f"--{name.replace('_', '-')}: ")
    assert repr(value) in text


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HEADRACE_GRPC_PORT", "x", "must be a whole number, not 'x'"),
        ("HEADRACE_GRPC_PORT", "65536", "must be at most 65535, not '65536'"),
        ("HEADRACE_COMMIT_INTERVAL_S", "soon", "must be a number, not 'soon'"),
        ("HEADRACE_COMMIT_INTERVAL_S", "0", "must be more than 0.0, not '0'"),
        ("HEADRACE_INSECURE", "perhaps", "must be true or false, not 'perhaps'"),
        ("HEADRACE_LOG_LEVEL", "loud", "must be debug, info, warning or error, not 'loud'"),
        ("HEADRACE_LOG_FORMAT", "xml", "must be plain or json, not 'xml'"),
    ],
)
def test_a_wrong_value_is_told_in_words(variable: str, value: str, words: str) -> None:
    """No names of Python's types: what it must be."""
    assert refused(environ={variable: value}) == f"{variable}: {words}"


@pytest.mark.parametrize(
    "place", ["sqlite:////var/mlflow.db", "http://127.0.0.1:5000", "https://mlflow.example/base"]
)
def test_mlflow_is_a_file_or_a_server(place: str) -> None:
    """Two kinds of places; without one it is off."""
    assert load({"mlflow": place}, environ={}).mlflow == place
    assert load({}, environ={"HEADRACE_MLFLOW": "off"}).mlflow is None


@pytest.mark.parametrize(
    "place", ["", "mlruns", "sqlite:", "file:///mlruns", "databricks", "http://ada:hush@host"]
)
def test_another_place_of_mlflow_is_refused(place: str) -> None:
    """Neither a directory nor a login in a URL, which MLflow would quote; no password is shown."""
    text = refused({"mlflow": place})
    assert text.startswith("--mlflow: ")
    assert "sqlite:///FILE" in text
    assert "hush" not in text


def test_all_violations_come_at_once() -> None:
    """Three mistakes are three lines, not three attempts."""
    text = refused({"grpc_port": -1, "app": "!"}, {"HEADRACE_NOTHING": "1"})
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "db.example.org", ""])
def test_reachable_host_needs_insecure(host: str) -> None:
    """An address that others can reach is refused unless --insecure says that it is meant."""
    assert "--insecure" in refused({"grpc_host": host})
    assert load({"grpc_host": host, "insecure": True}, environ={}).grpc_host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"])
def test_loopback_needs_nothing(host: str) -> None:
    """Every spelling of loopback is served as it is."""
    assert load({"grpc_host": host}, environ={}).grpc_host == host


def test_passwords_are_masked() -> None:
    """A password in the broker's address is not shown; the rest of it is."""
    config = Config(broker="kafka://ada:s3cret@b1:9092,b2:9092")
    shown = {setting.name: setting.value for setting in config.describe()}
    assert shown["broker"] == "kafka://ada:***@b1:9092,b2:9092"


def test_cluster_has_a_state_directory() -> None:
    """With a cluster state lives under ./.headrace/<app>, unless a directory is given."""
    config = Config(broker="kafka://b:9092", app="fraud")
    assert config.state_path() == Path(".headrace/fraud")
    assert dataclasses.replace(config, state_dir=Path("/s")).state_path() == Path("/s")


def test_worker_environment_fixes_what_learning_depends_on() -> None:
    """Workers run with a fixed hash seed and one thread of linear algebra."""
    environ = worker_environment()
    assert (environ["PYTHONHASHSEED"], environ["OPENBLAS_NUM_THREADS"]) == ("0", "1")
    assert hash_seed() in {"random", *map(str, range(10))}
