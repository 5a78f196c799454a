"""The settings of a process: defaults < file < environment < flags, built once, then frozen.

This is the only module that reads the environment. A setting `grpc_port` is the key `grpc_port`
of the TOML file, the variable `HEADRACE_GRPC_PORT` and the flag `--grpc-port`. What is not a
setting is an error that names the nearest one, so that a misspelt name is never just ignored.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from headrace.errors import ConfigError, Violation

PREFIX = "HEADRACE_"
FILE_VARIABLE = "HEADRACE_CONFIG"  # names the TOML file; `--config` goes before it
# What every worker runs under: set orders and float sums must come out the same after a restart.
WORKER_VARIABLES = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}

# gRPC's C core writes lines of its own to the terminal, such as for a port that is taken.
QUIET_VARIABLES = {"GRPC_VERBOSITY": "NONE"}

# MLflow reads its settings from the environment. Who has set one keeps it.
MLFLOW_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a service tells nobody that it runs
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its lines go where ours go
    # A server that is away is tried again by us: a stop waits for one request at most.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
}

Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,62}$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a process. `load` builds it; the defaults alone make a usable one.

    >>> Config().state_path() is None, Config(broker="kafka://b:9092").state_path().as_posix()
    (True, '.headrace/headrace')
    """

    broker: str = "memory:"  # or kafka://host:port,…
    app: Name = "headrace"  # names the consumer group and the internal topics
    state_dir: Path | None = None  # None: see `state_path`
    snapshots: str | None = None  # None: in the state directory; or file:///DIR, s3://BUCKET/DIR
    mlflow: str | None = None  # None: off; or sqlite:///FILE, http://host:port
    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 50051  # 0: a free one
    metrics_port: Port | None = 0  # 0: a free one; None ("off"): no metrics endpoint
    insecure: bool = False  # allows a grpc_host that others can reach, without TLS
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["plain", "json"] = "plain"
    fetch_wait_ms: Annotated[int, Meta(ge=1, le=5_000)] = 50  # a dry partition delays the others
    max_poll_records: Count = 4_000  # of one fetch
    commit_interval_s: Seconds = 1.0
    session_timeout_s: Seconds = 10.0  # until the group takes a silent worker for dead
    broker_wait_s: Seconds = 30.0  # at start, then the process gives up
    control_timeout_s: Seconds = 10.0  # until a control record must have taken effect
    descriptors_max: Annotated[int, Meta(ge=64)] = 4_096  # budget of open files for all shards
    models_bytes_max: Annotated[int, Meta(ge=1 << 20)] = 2 << 30  # about, of all live models
    message_bytes_max: Annotated[int, Meta(ge=1_024, le=1 << 30)] = 4 << 20  # of a gRPC message
    streams_max: Count = 1_024  # at a time on one gRPC connection; calls count until cleared
    sources: Mapping[str, str] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )  # setting -> where its value comes from; absent: the default

    def state_path(self) -> Path | None:
        """Where state lives; None: in a directory of this run, as the log goes with the process."""
        if self.state_dir is None and not self.broker.startswith("memory:"):
            return Path(".headrace") / self.app
        return self.state_dir

    def snapshots_url(self, state_dir: Path) -> str:
        """Where snapshots are kept, if state lives there."""
        return self.snapshots or f"file://{(state_dir / 'snapshots').absolute()}"

    def describe(self) -> list[Setting]:
        """Every setting with its value as text and where it comes from; passwords masked."""
        return [
            Setting(name, _shown(getattr(self, name)), self.sources.get(name, "default"))
            for name in _types()
        ]


class Setting(NamedTuple):
    """One line of the table that start-up prints."""

    name: str
    value: str
    source: str


def load(
    flags: Mapping[str, object] | None = None,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The settings of this process. A flag that is None was not given.

    `environ` is the process's own unless it is handed in. Raises ConfigError with everything that
    is wrong at once.
    """
    environ = os.environ if environ is None else environ
    if file is None and environ.get(FILE_VARIABLE):
        file = Path(environ[FILE_VARIABLE])
    violations: list[Violation] = []
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for candidate in (*_of_file(file), *_of_environment(environ), *_of_flags(flags or {})):
        try:
            values[candidate.name] = _typed(candidate)
            sources[candidate.name] = candidate.source
        except _Refused as refused:
            violations.append(refused.violation)
    config = Config(**values, sources=sources)
    violations.extend(_contradictions(config))
    if violations:
        raise ConfigError(violations)
    return config


def hash_seed() -> str:
    """PYTHONHASHSEED as this process was started with; "random" if it was not fixed."""
    return os.environ.get("PYTHONHASHSEED") or "random"


def worker_environment() -> dict[str, str]:
    """The environment in which a worker must be started: this one, with the fixed variables."""
    return {**QUIET_VARIABLES, **os.environ, **WORKER_VARIABLES}


def settle_mlflow() -> None:
    """Set the variables that MLflow reads when it is imported, unless somebody has."""
    for name, value in MLFLOW_VARIABLES.items():
        os.environ.setdefault(name, value)


class _Candidate(NamedTuple):
    name: str
    value: object
    source: str  # as the user wrote it: the variable, the flag, the file's key


class _Refused(Exception):
    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.text)
        self.violation = violation


def _of_file(file: Path | None) -> Iterator[_Candidate]:
    if file is None:
        return
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([Violation(str(file), f"cannot be read: {error}")]) from None
    for name, value in content.items():
        yield _Candidate(name, value, f"{file}: {name}")


def _of_environment(environ: Mapping[str, str]) -> Iterator[_Candidate]:
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable != FILE_VARIABLE:
            name = variable.removeprefix(PREFIX).lower()
            yield _Candidate(name, environ[variable], variable)


def _of_flags(flags: Mapping[str, object]) -> Iterator[_Candidate]:
    for name, value in flags.items():
        if value is not None:
            yield _Candidate(name, value, f"--{name.replace('_', '-')}")


def _typed(candidate: _Candidate) -> object:
    """The value in its setting's type, or _Refused."""
    name, value, source = candidate
    types = _types()
    if name not in types:
        raise _Refused(Violation(source, "is not a setting", _nearest(name, source)))
    expected = types[name]
    if value in ("off", "none") and type(None) in getattr(expected, "__args__", ()):
        return None
    if expected == Path | None:
        if isinstance(value, (str, Path)) and str(value):
            return Path(value).expanduser()
        raise _Refused(Violation(source, f"must be a path, not {value!r}"))
    try:
        # Text from the environment may become a number; a file's own types are kept strict.
        return msgspec.convert(value, expected, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        text = _expected(expected, str(error))
        raise _Refused(Violation(source, f"{text}, not {value!r}")) from None


_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than"}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def _expected(expected: Any, said: str) -> str:
    """What the type asks for, in words; `said`: what msgspec has against the value."""
    if expected == Port | None:
        return "must be a port, 0 to 65535 (0: a free one), or `off`"
    if get_origin(expected) is Literal:
        *most, last = get_args(expected)
        return f"must be {', '.join(most)} or {last}"
    if bound := re.match(r"Expected `(?:int|float)` (>=|<=|>) (\S+)", said):
        return f"must be {_BOUNDS[bound[1]]} {bound[2]}"
    if kind := re.match(r"Expected `(\w+)`, got", said):
        return f"must be {_KINDS[kind[1]]}"
    return said[:1].lower() + said[1:]


def _nearest(name: str, source: str) -> str:
    """The nearest setting, in the spelling of `source`."""
    for near in get_close_matches(name, _types(), n=1, cutoff=0.5):
        if source.startswith(PREFIX):
            return f"did you mean {PREFIX}{near.upper()}?"
        if source.startswith("--"):
            return f"did you mean --{near.replace('_', '-')}?"
        return f"did you mean {near}?"
    return "`headrace up --help` lists the settings"


def _contradictions(config: Config) -> Iterator[Violation]:
    if not config.insecure and not is_loopback(config.grpc_host):
        yield Violation(
            config.sources.get("grpc_host", "grpc_host"),
            f"{config.grpc_host} can be reached by others, and there is no TLS yet",
            "use 127.0.0.1, or say --insecure if the network is trusted",
        )
    if config.mlflow is not None and not _MLFLOW.fullmatch(config.mlflow):
        yield Violation(
            config.sources.get("mlflow", "mlflow"),
            f"{_shown(config.mlflow)} is no place of MLflow",
            "name sqlite:///FILE or http://HOST:PORT (name and password: MLFLOW_TRACKING_USERNAME"
            " and MLFLOW_TRACKING_PASSWORD), or `off`",
        )


_MLFLOW = re.compile(r"sqlite:///[^?#]+|https?://[^/?#@]+(/[^?#@]*)?")


def joined(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; a name may lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _types() -> dict[str, Any]:
    """The settings in the order of `Config`, with the types that bound them."""
    hints = get_type_hints(Config, include_extras=True)
    return {name: hint for name, hint in hints.items() if name != "sources"}


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", str(value))
