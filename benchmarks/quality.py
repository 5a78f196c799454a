"""`make quality`: what Headrace must reach on real input, through the whole service.

Each figure is taken from log → agent → state → decision on the embedded broker, and held against a
gate. One table for people, flat JSON in `benchmarks/out/quality.json`; the exit code is 1 if a gate
is missed. `python -m benchmarks.quality heaters` runs that part alone and writes no JSON.
docs/quality.md says what the figures mean.
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import msgspec
import numpy as np
from benchmarks.gates import Gate, table, write
from river import datasets, linear_model, metrics, optim, preprocessing, tree

from headrace.cli.console import Console
from headrace.clock import SystemClock
from headrace.config import Config, hash_seed
from headrace.demo.feeders import learned, rating_events, run_heaters
from headrace.demo.heaters import HOUR, machines
from headrace.demo.movielens import Rating, load
from headrace.demo.race import Race
from headrace.demo.scene import shipped_spec
from headrace.errors import HeadraceError
from headrace.models.recommend import NO_HISTORY, MostPopular
from headrace.pipelines.broker import Broker, MemoryBroker
from headrace.pipelines.feeds import Outgoing
from headrace.service import Service
from headrace.serving.client import AsyncClient
from headrace.views import AgentView, MetricView

CACHE = Path(__file__).parent.parent / ".cache" / "movielens"
KEY = "all"  # the one key of River's data sets
START_MS = 1_700_000_000_000
FIVE_STARS = "five-stars"  # topic of the ratings with five stars alone
TOP = 10


class Place(NamedTuple):
    """Where a part is measured: a broker that runs, and a directory for state."""

    broker: Broker
    state_dir: Path


# -- one key, beside River's bare loop -------------------------------------------------------------


class Bench(NamedTuple):
    """A data set of River's, its model as River builds it and as a spec says it.

    `published`: the figures in River's own tables, with as many digits as they give.
    """

    name: str
    data: Any
    model: Any
    spec_model: Any
    published: dict[str, str]


BENCHES = (
    Bench(
        "phishing",
        datasets.Phishing(),
        preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005)),
        [
            "preprocessing.StandardScaler",
            {"linear_model.LogisticRegression": {"optimizer": {"optim.SGD": {"lr": 0.005}}}},
        ],
        {"Accuracy": "0.887200", "F1": "0.871233"},
    ),
    Bench(
        "trump-approval",
        datasets.TrumpApproval(),
        preprocessing.StandardScaler() | linear_model.LinearRegression(),
        ["preprocessing.StandardScaler", "linear_model.LinearRegression"],
        {"MAE": "1.314548"},
    ),
    Bench(
        "chick-weights",
        datasets.ChickWeights(),
        preprocessing.StandardScaler() | tree.HoeffdingTreeRegressor(),
        ["preprocessing.StandardScaler", "tree.HoeffdingTreeRegressor"],
        {"MAE": "23.16185"},
    ),
)


async def one_key(bench: Bench, place: Place) -> list[Gate]:
    """Half of the events, a restart of the service, the other half."""
    events = events_of(bench)
    half = len(events) // 2
    async with served(bench.name, place) as (service, client):
        await client.deploy(spec_of(bench))
        await service.events.send_all(events[:half])
        await learned(client, bench.name, half)
    async with served(bench.name, place) as (service, client):
        await service.events.send_all(events[half:])
        view = await learned(client, bench.name, len(events))
        decisions = await decided(client, bench.name)
    bare, scores = bare_loop(bench)
    equal = sum(decisions[at]["score"] == score for at, score in enumerate(scores))
    gates = [Gate(f"{bench.name}.scores_as_river", equal, "=", len(events), "bit for bit")]
    for name, digits in bench.published.items():
        value = metric(view, name).value
        what = f"{bench.name}.{name.lower()}"
        gates.append(Gate(what, value, "=", bare[name], "River's bare loop"))
        rounded = round(value, len(digits.partition(".")[2]))
        gates.append(Gate(f"{what}_published", rounded, "=", float(digits), "River's table"))
    return gates


def bare_loop(bench: Bench) -> tuple[dict[str, float], list[float]]:
    """River alone on the same events: its metrics, and each score it gave before it learned."""
    model = bench.model.clone()
    found = {name: getattr(metrics, name)() for name in bench.published}
    scores: list[float] = []
    for x, y in bench.data:
        if isinstance(y, bool):
            scores.append(model.predict_proba_one(x)[True])
        else:
            scores.append(model.predict_one(x))
        guess = model.predict_one(x)
        for each in found.values():
            each.update(y, guess)
        model.learn_one(x, y)
    return {name: float(each.get()) for name, each in found.items()}, scores


def spec_of(bench: Bench) -> bytes:
    """The spec that a user would write for the data set."""
    (x, y), *_ = bench.data
    kinds = {bool: "boolean", str: "category"}
    spec = {
        "agent": bench.name,
        "source": {"topic": bench.name, "key": "$.key", "start": "earliest"},
        "features": {name: {"type": kinds.get(type(v), "number")} for name, v in x.items()},
        "model": bench.spec_model,
        "label": {"field": "$.y", "type": "boolean" if isinstance(y, bool) else "number"},
        "metrics": list(bench.published),
    }
    return msgspec.json.encode(spec)


def events_of(bench: Bench) -> list[Outgoing]:
    """The data set as events of one key, a millisecond apart."""
    return [
        Outgoing(
            bench.name,
            KEY.encode(),
            msgspec.json.encode({"key": KEY, "y": y, **x}),
            START_MS + number,
        )
        for number, (x, y) in enumerate(bench.data)
    ]


# -- films -----------------------------------------------------------------------------------------


async def movies(place: Place) -> list[Gate]:
    """The two shipped agents on all ratings, and `top10` on those with five stars alone."""
    ratings = (await asyncio.to_thread(load, CACHE)).events
    five = [rating for rating in ratings if rating.rating == 5.0]
    async with served("movies", place) as (service, client):
        for agent in ("ratings", "top10"):
            await client.deploy(shipped_spec(agent))
        await service.events.send_all(rating_events(ratings))
        mae = metric(await learned(client, "ratings", len(ratings)), "MAE")
        hits = metric(await learned(client, "top10", len(ratings)), "recall@10")
        decisions = await decided(client, "top10")
        await client.deploy(five_star_spec())
        await service.events.send_all(rating_events(five, FIVE_STARS))
        star_hits = metric(await learned(client, "top10-five-stars", len(five)), "recall@10")
    taken = [
        any(item["item"] == rating.item for item in decisions[at]["items"])
        for at, rating in enumerate(ratings)
    ]
    popular = popular_hits(ratings)
    stars = [at for at, rating in enumerate(ratings) if rating.rating == 5.0]
    on_stars, popular_on_stars = (fmean(hit[at] for at in stars) for hit in (taken, popular))
    return [
        Gate("movies.mae", mae.value, "<=", 0.7495, *beside(mae)),
        Gate("movies.recall_all", hits.value, ">=", 0.180, *beside(hits)),
        Gate("movies.recall_all_from_decisions", fmean(taken), "=", hits.value, "as it says"),
        Gate(
            "movies.recall_on_five_stars",
            on_stars,
            ">=",
            0.155,
            f"most popular {popular_on_stars:.4f}; both learn from all",
            (("most_popular", popular_on_stars),),
        ),
        Gate("movies.recall_five_stars_only", star_hits.value, ">=", 0.155, *beside(star_hits)),
    ]


def five_star_spec() -> bytes:
    """The shipped `top10` under another name, on the topic that has five-star ratings alone."""
    spec = msgspec.yaml.decode(shipped_spec("top10"))
    spec["agent"] = "top10-five-stars"
    spec["source"]["topic"] = FIVE_STARS
    return msgspec.json.encode(spec)


def popular_hits(ratings: Sequence[Rating]) -> list[bool]:
    """For each rating, whether the film is among the ten most rated that the user has not seen."""
    model, seen, hits = MostPopular(), dict[str, Any](), list[bool]()
    for rating in ratings:
        history = seen.get(rating.user, NO_HISTORY)
        number = model.numbers.get(rating.item)
        if number is None or number in history:
            hits.append(False)
        else:
            scores = model.popularity()
            scores[history] = -1.0
            own = scores[number]
            before = np.count_nonzero(scores > own) + np.count_nonzero(scores[:number] == own)
            hits.append(bool(before < TOP))
        seen[rating.user] = model.absorb(history, rating.item)
    return hits


# -- heaters ---------------------------------------------------------------------------------------


async def heaters(place: Place) -> list[Gate]:
    """One hour of twelve machines in a closed loop over the broker.

    Two other controllers drive equal machines in the same run.
    """
    race = Race(machines())
    async with served("heaters", place) as (service, client):
        await client.deploy(shipped_spec("heaters"))
        async with aclosing(client.watch_decisions("heaters", from_start=True)) as decisions:
            await run_heaters(
                race.plant,
                service.events,
                decisions,
                seconds=HOUR,
                on_tick=lambda _: race.keep_up(),
            )
    ours, *others = race.standings()
    low, high = race.plant.asked or (math.nan, math.nan)
    against = ", ".join(f"{name} {error:.3f}" for name, error in others)
    also = tuple(zip(("pi", "open_loop"), (error for _, error in others), strict=True))
    return [
        Gate("heaters.mean_error_c", ours.error, "<=", 1.0, against, also),
        Gate("heaters.actuator_min", low, ">=", 0.0, "%, as decided"),
        Gate("heaters.actuator_max", high, "<=", 100.0, "%, as decided"),
    ]


# -- what the parts stand on -----------------------------------------------------------------------


@asynccontextmanager
async def served(app: str, place: Place) -> AsyncIterator[tuple[Service, AsyncClient]]:
    """A service that goes on from the state that it left, and a client of it."""
    config = Config(grpc_port=0, metrics_port=None, state_dir=place.state_dir / app, app=app)
    service = Service(config, broker=place.broker)
    await service.start()
    try:
        async with AsyncClient(service.grpc_address) as client:
            yield service, client
    finally:
        await service.stop()


async def decided(client: AsyncClient, agent: str) -> dict[int, dict[str, Any]]:
    """The agent's decisions by the offset of their event, as its topic has them.

    Raises AssertionError if one of them was made twice with two values.
    """
    found: dict[int, dict[str, Any]] = {}
    async with aclosing(client.watch_decisions(agent, from_start=True, follow=False)) as records:
        async for record in records:
            before = found.setdefault(record["position"]["offset"], record)
            assert before == record, (before, record)
    return found


def metric(view: AgentView, name: str) -> MetricView:
    """The agent's metric of this name."""
    return next(m for m in view.metrics if m.name == name)


def beside(measured: MetricView) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The baseline of a metric, in words and as a figure."""
    name, value = measured.baseline_name or "", measured.baseline or math.nan
    return f"{name} {value:.4f}", ((name.replace(" ", "_"), value),)


PARTS: dict[str, Callable[[Place], Awaitable[list[Gate]]]] = {
    **{bench.name: partial(one_key, bench) for bench in BENCHES},
    "heaters": heaters,
    "movies": movies,
}


async def measure(console: Console, parts: Sequence[str]) -> list[Gate]:
    """The gates of these parts, one part after the other. One that breaks is a missed gate."""
    clock, gates = SystemClock(), list[Gate]()
    with tempfile.TemporaryDirectory(prefix="headrace-quality-") as scratch:
        for part in parts:
            broker = MemoryBroker(Path(scratch) / f"{part}-broker")
            since = clock.monotonic()
            try:
                with console.status(part):
                    await broker.start()
                    gates += await PARTS[part](Place(broker, Path(scratch)))
            except HeadraceError as error:
                gates.append(Gate(f"{part}.ran", 0, "=", 1, str(error)))
            finally:
                await broker.stop()
            console.print(f"{part}: {clock.monotonic() - since:.1f} s", highlight=False)
    return gates


def main(arguments: Sequence[str]) -> int:
    """0: all gates are met; 1: one was missed; 2: it was not started as it must be."""
    parts = list(arguments) or list(PARTS)
    if hash_seed() != "0" or not set(parts) <= set(PARTS):
        print(
            f"PYTHONHASHSEED=0 python -m benchmarks.quality [{' | '.join(PARTS)}] …: "
            "without names, all",
            file=sys.stderr,
        )
        return 2
    console = Console()
    gates = asyncio.run(measure(console, parts))
    console.print(table(gates, "quality, through the whole service"))
    missed = sum(not gate.met for gate in gates)
    if not arguments:
        console.print(f"figures in {write(gates, 'quality.json')}", highlight=False)
    console.print(f"{len(gates) - missed} passed, {missed} failed", highlight=False)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
