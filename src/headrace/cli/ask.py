"""Asking a running service: predictions, keys, decisions, the quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import msgspec
import typer
from rich.markup import escape

from headrace.cli import past, show
from headrace.cli.answerable import check
from headrace.cli.client import Address, Agent, Json, Key, connect, interrupt_held
from headrace.cli.console import as_json, err, say, waiting
from headrace.cli.meant import snapshot_meant
from headrace.clock import SystemClock
from headrace.errors import RequestError, UnavailableError

For = typer.Option(
    None, "--for", min=0.1, metavar="SECONDS", help="Stop after so long.", show_default=False
)
Count = typer.Option(None, "-n", min=1, help="Stop after so many.", show_default=False)


def predict(
    agent: str = Agent,
    key: str = Key,
    features: list[str] | None = typer.Argument(
        None, metavar="[NAME=VALUE]...", help="Features, as in an event.", show_default=False
    ),
    k: int | None = typer.Option(None, "-k", min=1, help="How many items to recommend."),
    candidate: list[str] | None = typer.Option(
        None, help="Rank only these items (may be repeated).", show_default=False
    ),
    exclude: list[str] | None = typer.Option(
        None, help="Leave this item out (may be repeated).", show_default=False
    ),
    item: str | None = typer.Option(
        None, help="The item to score, for recommenders.", show_default=False
    ),
    setpoint: float | None = typer.Option(
        None, help="The set-point, for `adjust`.", show_default=False
    ),
    state: str | None = past.As,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Ask for a prediction. Nothing is learned from it.

    With `--as-of` the models answer as they were: in a snapshot, when all records below an offset
    of the key's partition were learned, or all before a TIME (`2026-03-01T14:07Z`, or `10m` ago).

    Changes nothing.

    Example: `headrace predict card-fraud 4711 amount=12.5 hour=14 merchant=grocer`
    """
    as_of = past.as_of(state, agent, SystemClock().time())
    asked: dict[str, object] = {"-k": k, "--candidate": candidate, "--exclude": exclude}
    asked |= {"--item": item, "--setpoint": setpoint}
    given = [option for option, value in asked.items() if value not in (None, [])]
    with connect(address) as client:
        spec = client.agent(agent).spec if features or given else {}
        check(agent, spec, given)
        declared = spec.get("features", {})
        with (
            snapshot_meant(client, agent),
            waiting("making that state again" if as_of else "asking"),
        ):
            answer = client.predict(
                agent,
                key=key,
                features=read_features(features or [], declared),
                k=k,
                item=item,
                setpoint=setpoint,
                candidates=candidate or None,
                exclude=exclude or (),
                as_of=as_of,
            )
    as_json(answer) if json else show.answer(answer, past=as_of is not None)


def key(
    agent: str = Agent, key: str = Key, address: str | None = Address, json: bool = Json
) -> None:
    """Show one key: updates, when it last learned, its size, its model's parameters.

    Changes nothing.

    Example: `headrace key card-fraud 4711`
    """
    with connect(address) as client:
        view = client.key(agent, key)
    as_json(view) if json else show.key(view)


def decisions(
    agent: str = Agent,
    from_start: bool = typer.Option(False, "--from-start", help="Begin with the oldest."),
    follow: bool = typer.Option(
        True,
        "--follow/--no-follow",
        "-f",
        help="Wait for more at the end. With --no-follow it begins with the oldest, too, and ends "
        "where the log ends now.",
    ),
    count: int | None = Count,
    for_s: float | None = For,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Follow an agent's decision stream, one decision a line. Ctrl-C ends it.

    It begins with what is decided from now on; `--from-start` shows what was decided before, too.

    Changes nothing. docs/records.md has every field of the records.

    Example: `headrace watch decisions card-fraud --from-start --no-follow --json`
    """
    with connect(address) as client:
        with interrupt_held():
            watch = client.watch_decisions(agent, from_start=from_start, follow=follow, for_s=for_s)
        records = _until(watch, for_s)
        if follow:
            what = f"decisions of {agent}"
            before = "" if from_start else "those made before: --from-start"
            records = _awaited(records, what, before=before)
        for record in islice(records, count):
            as_json(record) if json else say(show.decision(record))


def withdrawn(
    agent: str | None = typer.Argument(
        None, help="The agent's name; all agents if left out.", show_default=False
    ),
    from_start: bool = typer.Option(
        True,
        "--from-start",
        help="Begin with the oldest, as it does in any case.",
        show_default=False,
    ),
    follow: bool = typer.Option(
        False,
        "--follow/--no-follow",
        "-f",
        help="Wait for more at the end; it ends there otherwise.",
    ),
    count: int | None = Count,
    for_s: float | None = For,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Show which decisions rollbacks have withdrawn, and reinstated, from the oldest on.

    Changes nothing. docs/records.md says how the records add up.

    Example: `headrace watch withdrawn card-fraud`
    """
    shown = 0
    with connect(address) as client:
        if agent is not None:
            client.agent(agent)
        with interrupt_held():
            watch = client.watch_withdrawn(agent, from_start=from_start, follow=follow, for_s=for_s)
        records = _until(watch, for_s)
        if follow:
            what = "withdrawn decisions" + (f" of {agent}" if agent is not None else "")
            records = _awaited(records, what)
        for record in islice(records, count):
            shown += 1
            as_json(record) if json else say(show.fated(record))
    if not json:
        err.print(f"{shown:,} shown" if shown else "nothing was withdrawn")


def quarantine(
    agent: str | None = typer.Argument(
        None, help="The agent's name; all agents if left out.", show_default=False
    ),
    follow: bool = typer.Option(False, "--follow", "-f", help="Wait for more at the end."),
    count: int | None = Count,
    for_s: float | None = For,
    address: str | None = Address,
    json: bool = Json,
) -> None:
    """Show the events that were refused, from the oldest: where they are, and why.

    With `--json`, `key` and `value` are base64, as they need not be text.

    Changes nothing.

    Example: `headrace quarantine card-fraud -n 20`
    """
    shown = 0
    with connect(address) as client:
        if agent is not None:
            client.agent(agent)  # a name that does not exist has no quarantine either
        with interrupt_held():
            watch = client.watch_quarantine(agent, from_start=True, follow=follow, for_s=for_s)
        records = _until(watch, for_s)
        if follow:
            what = "refused events" + (f" of {agent}" if agent is not None else "")
            records = _awaited(records, what)
        for record in islice(records, count):
            shown += 1
            as_json(record) if json else say(show.quarantined(record))
    if not json:
        err.print(f"{shown:,} shown" if shown else "nothing in quarantine")


def _awaited(
    records: Iterator[dict[str, Any]], what: str, *, before: str = ""
) -> Iterator[dict[str, Any]]:
    """The same records; until the first one comes, a terminal is told what it waits for.

    `before`: how to see what is there already. Somebody without a terminal is told as well then.
    """
    text = f"waiting for {escape(what)} (0 so far"
    text += f"; {escape(before)}); Ctrl-C ends" if before else "); Ctrl-C ends"
    if before and not err.is_terminal:
        err.print(text, soft_wrap=True)
    with waiting(text):
        first = list(islice(records, 1))
    return chain(first, records)


def _until(records: Iterator[dict[str, Any]], for_s: float | None) -> Iterator[dict[str, Any]]:
    """The same records; that the time asked for is over is an end like any other."""
    try:
        yield from records
    except UnavailableError as error:
        if for_s is None or error.code != "deadline":
            raise


def read_features(given: list[str], declared: Mapping[str, Any]) -> dict[str, Any]:
    """`NAME=VALUE` as the spec's types say: a category is text as it stands, the others are JSON.

    >>> read_features(["amount=12.5", "shop=4711"], {"shop": {"type": "category"}})
    {'amount': 12.5, 'shop': '4711'}

    Raises RequestError.
    """
    features: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise RequestError("invalid_request", f"{text!r} is not NAME=VALUE")
        try:
            read = msgspec.json.decode(value)
        except msgspec.DecodeError:
            read = value
        category = declared.get(name, {}).get("type") == "category"
        features[name] = value if category and not isinstance(read, str) else read
    return features
