"""`headrace up`: a service in the foreground, until it is asked to stop or cannot go on."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import typer

from headrace import logs
from headrace.cli.console import StandardError, waiting
from headrace.config import Config, load
from headrace.errors import ConfigError, Violation

TUNING = "Tuning"


def setting(name: str, about: str, default: str | None = None, panel: str | None = None) -> Any:
    """An option that stays None when it is not given, so that file and environment count."""
    usual = getattr(Config, name)
    shown = default or (f"{usual:g}" if isinstance(usual, float) else str(usual))
    return typer.Option(None, help=about, show_default=shown, rich_help_panel=panel)


def _tuning(name: str, about: str) -> Any:
    return setting(name, about, panel=TUNING)


def up(
    broker: str | None = setting(
        "broker", "memory: (embedded, forgets), local:DIR (embedded Kafka) or kafka://host:port,…"
    ),
    app: str | None = setting("app", "Names the consumer group and the internal topics."),
    state_dir: Path | None = setting(
        "state_dir", "Where state lives.", ".headrace/APP; with memory: none"
    ),
    snapshots: str | None = setting(
        "snapshots",
        "Where snapshots are kept: file:///DIR or s3://BUCKET/DIR.",
        "in the state directory",
    ),
    mlflow: str | None = setting(
        "mlflow",
        "Where MLflow is told of agents and named snapshots: sqlite:///FILE or http://HOST:PORT.",
        "off",
    ),
    grpc_host: str | None = setting("grpc_host", "Address to listen on."),
    grpc_port: int | None = setting("grpc_port", "Port of gRPC; 0: a free one."),
    metrics_port: str | None = setting("metrics_port", "Of /metrics; 0: a free one; off: none."),
    insecure: bool | None = typer.Option(
        None, "--insecure", help="Allow an address others can reach."
    ),
    config: Path | None = typer.Option(
        None, help="A TOML file of settings.", exists=True, dir_okay=False, show_default=False
    ),
    log_level: str | None = setting("log_level", "debug, info, warning or error."),
    log_format: str | None = setting("log_format", "plain or json."),
    broker_wait_s: float | None = _tuning(
        "broker_wait_s", "How long to wait for the broker at start."
    ),
    session_timeout_s: float | None = _tuning(
        "session_timeout_s", "Until the group takes a silent worker for dead."
    ),
    commit_interval_s: float | None = _tuning(
        "commit_interval_s", "Between two commits of the group's offset."
    ),
    control_timeout_s: float | None = _tuning(
        "control_timeout_s", "Until a deploy, pause … must have taken effect."
    ),
    fetch_wait_ms: int | None = _tuning("fetch_wait_ms", "How long one fetch waits for records."),
    max_poll_records: int | None = _tuning("max_poll_records", "Records of one fetch at most."),
    descriptors_max: int | None = _tuning("descriptors_max", "Open files of all shards at most."),
    models_bytes_max: int | None = _tuning(
        "models_bytes_max", "Bytes of all live models at most, about."
    ),
    message_bytes_max: int | None = _tuning(
        "message_bytes_max", "Bytes of one gRPC message at most."
    ),
    streams_max: int | None = _tuning("streams_max", "Streams at a time on one gRPC connection."),
) -> None:
    """Start a worker: broker (if embedded), learning and gRPC. Ctrl-C stops it cleanly.

    A flag goes before HEADRACE_NAME in the environment, that before `name` in the TOML file:
    `--grpc-port 6000` is HEADRACE_GRPC_PORT=6000 is `grpc_port = 6000`.

    `memory:` forgets everything with the process, `local:DIR` keeps it in DIR; docs/brokers.md says
    which broker can do what.

    Changes: it makes its topics, and its state directory, where they are not there; what is there
    it goes on with.

    Example: `headrace up --broker kafka://localhost:9092 --state-dir /var/lib/headrace`
    """
    given = {name: value for name, value in locals().items() if name != "config"}
    settings = load(given, file=config)
    check_kept(settings)
    start_logs(settings)
    with waiting("loading models (Ctrl-C gives up)"):
        from headrace.cli.running import serve
    asyncio.run(serve(settings))


def check_kept(settings: Config) -> None:
    """Refuse state that would be of use only once, as its log goes with the process.

    Raises ConfigError.
    """
    if settings.state_dir is not None and settings.broker.startswith("memory:"):
        where = settings.sources.get("state_dir", "state_dir")
        text = (
            f"{settings.state_dir} would be refused at the next start: with --broker memory: the "
            "events that it was learned from go with the process"
        )
        hint = "name --broker local:DIR, which keeps them, or leave the state directory out"
        raise ConfigError([Violation(where, text, hint)])


def start_logs(settings: Config) -> None:
    """All that this process logs, Python's warnings too, to standard error."""
    logs.setup(level=settings.log_level, style=settings.log_format, stream=StandardError.stream())
    logging.captureWarnings(capture=True)
