"""The worker that a command speaks to: `--address`, else where this machine's settings say."""

from __future__ import annotations

import ipaddress
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from headrace.config import Config, joined, load
from headrace.errors import ConfigError, Violation

if TYPE_CHECKING:
    from headrace.serving.client import Client

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, never bound

Agent = typer.Argument(help="The agent's name.", show_default=False)
Key = typer.Argument(help="The key: a user, card or machine.", show_default=False)
Json = typer.Option(False, "--json", help="JSON for machines instead of tables.")
Address = typer.Option(
    None,
    "--address",
    "-a",
    metavar="HOST[:PORT]",
    help="Where the worker listens; else as HEADRACE_GRPC_HOST and HEADRACE_GRPC_PORT say.",
    show_default="127.0.0.1:50051",
)


def connect(address: str | None) -> Client:
    """A client of the worker at `address`. Raises ConfigError."""
    target = with_port(address) if address else address_of(load())
    from headrace.serving.client import Client

    return Client(target)


@contextmanager
def interrupt_held() -> Iterator[None]:
    """A Ctrl-C that comes meanwhile counts at the end: gRPC loses it while it begins a call."""
    came: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if came:
        raise KeyboardInterrupt


def with_port(address: str) -> str:
    """The address, with the usual port where it names none.

    >>> with_port("localhost"), with_port("::1"), with_port("[::1]:6000"), with_port("db:7")
    ('localhost:50051', '[::1]:50051', '[::1]:6000', 'db:7')
    """
    host = address.removeprefix("[").removesuffix("]")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return address if ":" in address else joined(address, Config.grpc_port)
    return joined(host, Config.grpc_port)


def address_of(config: Config) -> str:
    """Where a worker with these settings can be reached from its own machine."""
    if not config.grpc_port:
        where = config.sources.get("grpc_port", "grpc_port")
        hint = "say --address with what `headrace up` printed"
        raise ConfigError([Violation(where, "0 is a free port, nobody here knows which", hint)])
    return joined(ANYWHERE.get(config.grpc_host, config.grpc_host), config.grpc_port)
