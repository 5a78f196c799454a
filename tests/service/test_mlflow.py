"""MLflow beside a running service: what it is told, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from headrace.config import worker_environment
from headrace.pipelines import registering
from headrace.serving.client import AsyncClient
from headrace.views import Answer, RollbackRequest
from tests.mlflow_place import MlflowServer, client_of, hanging
from tests.service.conftest import Start
from tests.service.test_service import KEYS, events, learned, spec

POWERS = (0.0, 3.5, 10.0)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks often, and measures with each look."""
    monkeypatch.setattr(registering, "LOOK_S", 0.1)
    monkeypatch.setattr(registering, "AGAIN_MAX_S", 0.3)
    monkeypatch.setattr(registering, "MEASURE_S", 0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Iterator[MlflowServer]:
    """A real server that has not been started yet."""
    server = MlflowServer(tmp_path_factory.mktemp("server") / "mlflow", mlflow_tables)
    yield server
    server.stop()


def load(uri: str, model: str) -> Any:
    """A model of MLflow as a user loads it."""
    client_of(uri)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own types
        import mlflow.pyfunc
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.pyfunc.load_model(model)


async def aliases(uri: str, agent: str, wanted: dict[str, str]) -> dict[str, str]:
    """What the aliases name, by snapshot, as soon as that is what is wanted, or after long."""

    def read() -> dict[str, str]:
        client = client_of(uri)
        if not client.search_registered_models(f"name='{agent}'"):
            return {}
        found = client.get_registered_model(agent).aliases
        versions = {alias: client.get_model_version(agent, v) for alias, v in found.items()}
        return {alias: v.tags["headrace.snapshot_id"] for alias, v in versions.items()}

    found: dict[str, str] = await until(read, wanted)
    return found


async def until(read: Callable[[], Any], wanted: Any) -> Any:
    """What is read in the end."""
    end = time.monotonic() + 15.0
    found = await asyncio.to_thread(read)
    while found != wanted and time.monotonic() < end:
        await asyncio.sleep(0.05)
        found = await asyncio.to_thread(read)
    return found


async def asked(client: AsyncClient, agent: str) -> list[Answer]:
    """What the service answers to each key and power, to an unknown key too."""
    return [
        await client.predict(agent, key=key, features={"power": power})
        for key in (*KEYS, "nobody")
        for power in POWERS
    ]


def table() -> pandas.DataFrame:
    """The same questions as a table."""
    rows = [(key, power) for key in (*KEYS, "nobody") for power in POWERS]
    return pandas.DataFrame(rows, columns=["key", "power"])


def said(answers: list[Answer]) -> list[tuple[Any, ...]]:
    return [
        (a.score, a.decision, a.standing.cold, a.standing.updates, a.standing.offset)
        for a in answers
    ]


def told(answers: pandas.DataFrame) -> list[tuple[Any, ...]]:
    columns = ["score", "decision", "cold", "updates", "offset"]
    return [tuple(row.values()) for row in answers[columns].to_dict("records")]


async def test_live_is_loaded_and_answers_as_the_service_did(start: Start, mlflow_uri: str) -> None:
    """`models:/AGENT@live` gives the snapshot's answers, bit by bit, whatever was learned since;
    the aliases follow rollbacks and a new deploy.
    """
    async with start(mlflow=mlflow_uri) as (service, client):
        await client.deploy(spec("told", "t-told", metrics=["MAE"]))
        await service.events.send_all(events("t-told", range(30)))
        await learned(client, "told", 30)
        before = await asked(client, "told")
        await client.create_snapshot("told", "monday")
        measured = (await client.agent("told")).metrics[0].value
        await service.events.send_all(events("t-told", range(30, 60)))
        await learned(client, "told", 60)
        after = await asked(client, "told")
        await client.create_snapshot("told", "tuesday")
        wanted = {"live": "told.tuesday", "previous": "told.monday"}
        assert await aliases(mlflow_uri, "told", wanted) == wanted
        await client.rollback(RollbackRequest(agent="told", snapshot_id="told.monday"))
        wanted = {"live": "told.monday", "previous": "told.tuesday"}
        assert await aliases(mlflow_uri, "told", wanted) == wanted
        await client.undo_rollback("told")
        wanted = {"live": "told.tuesday", "previous": "told.monday"}
        assert await aliases(mlflow_uri, "told", wanted) == wanted
        live = await asyncio.to_thread(load, mlflow_uri, "models:/told@live")
        monday = await asyncio.to_thread(load, mlflow_uri, "models:/told@previous")
        assert told(live.predict(table())) == said(after) != said(before)
        assert told(monday.predict(table())) == said(before)
        assert told(live.predict(table())) == said(after), "to ask changes nothing"
        version = client_of(mlflow_uri).get_model_version_by_alias("told", "previous")
        assert float(version.tags["headrace.metric.MAE"]) == measured
        await client.delete("told")
        await client.deploy(spec("told", "t-told"))
        wanted = {"previous": "told.tuesday"}
        assert await aliases(mlflow_uri, "told", wanted) == wanted
        assert len(client_of(mlflow_uri).search_model_versions("name='told'")) == 2


async def test_metrics_are_logged_to_the_run_of_the_life(start: Start, mlflow_uri: str) -> None:
    """The prequential metric and its baseline, by the number of records."""

    def steps() -> list[int]:
        tracking = client_of(mlflow_uri)
        experiments = tracking.search_experiments(filter_string=f"name = '{app}'")
        runs = tracking.search_runs([each.experiment_id for each in experiments])
        for run in runs:
            history = tracking.get_metric_history(run.info.run_id, "MAE.baseline")
            return [metric.step for metric in history]
        return []

    async with start(mlflow=mlflow_uri) as (service, client):
        app = service.config.app
        await client.deploy(spec("measured", "t-measured", metrics=["MAE"]))
        await service.events.send_all(events("t-measured", range(30)))
        assert await until(lambda: steps()[-1:], [30]) == [30]
        await service.events.send_all(events("t-measured", range(30, 40)))
        assert await until(lambda: steps()[-1:], [40]) == [40]
        assert steps() == sorted(set(steps()))


async def test_a_server_that_was_away_is_told_of_all_when_it_is_there(
    start: Start, server: MlflowServer
) -> None:
    """Nobody waits for it: snapshots and rollbacks succeed, also after a restart. Then it catches
    up, and its versions are loaded from it.
    """
    async with start(mlflow=server.uri) as (service, client):
        await client.deploy(spec("away", "t-away"))
        await service.events.send_all(events("t-away", range(30)))
        await learned(client, "away", 30)
        answers = await asked(client, "away")
        await client.create_snapshot("away", "first")
        await service.events.send_all(events("t-away", range(30, 40)))
        await learned(client, "away", 40)
        await client.create_snapshot("away", "second")
        await client.rollback(RollbackRequest(agent="away", snapshot_id="away.first"))
    async with start(mlflow=server.uri) as (service, client):
        await client.create_snapshot("away", "third")
        await client.rollback(RollbackRequest(agent="away", snapshot_id="away.first"))
        assert not service.failed.done()
        await asyncio.to_thread(server.start)
        wanted = {"live": "away.first", "previous": "away.third"}
        assert await aliases(server.uri, "away", wanted) == wanted
        assert len(client_of(server.uri).search_model_versions("name='away'")) == 3
        model = await asyncio.to_thread(load, server.uri, "models:/away@live")
        assert told(model.predict(table())) == said(answers)


async def test_a_server_that_hangs_holds_up_neither_commands_nor_the_stop(
    start: Start, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request waits for its time to be up, and everything else goes on."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    await asyncio.to_thread(server.start)
    with hanging(server):
        began = time.monotonic()
        async with start(mlflow=server.uri) as (service, client):
            await client.deploy(spec("hangs", "t-hangs"))
            await service.events.send_all(events("t-hangs", range(30)))
            await learned(client, "hangs", 30)
            await client.create_snapshot("hangs", "first")
            await client.rollback(RollbackRequest(agent="hangs", snapshot_id="hangs.first"))
            assert not service.failed.done()
        assert time.monotonic() - began < 15.0


async def test_an_agent_that_mlflow_refuses_does_not_hold_up_the_others(
    start: Start, mlflow_uri: str
) -> None:
    """A registered model of its name that is somebody else's is left alone."""
    client_of(mlflow_uri).create_registered_model("among")
    async with start(mlflow=mlflow_uri) as (service, client):
        for agent in ("among", "others"):
            await client.deploy(spec(agent, f"t-{agent}"))
            await service.events.send_all(events(f"t-{agent}", range(3)))
            await learned(client, agent, 3)
            await client.create_snapshot(agent, "first")
        wanted = {"live": "others.first"}
        assert await aliases(mlflow_uri, "others", wanted) == wanted
        assert client_of(mlflow_uri).get_registered_model("among").aliases == {}
        assert not service.failed.done()


IMPORTS = """
import sys
import headrace.service
before = {"mlflow", "pandas", "alembic"} & set(sys.modules)  # River takes SQLAlchemy if it is there
from headrace.state.mlflow_sink import MlflowSink
MlflowSink(sys.argv[1], "app").versions("nobody")
from mlflow.telemetry import get_telemetry_client
print(before, "mlflow" in sys.modules, get_telemetry_client())
"""


def test_mlflow_is_imported_when_it_is_told_something_and_tells_nobody(mlflow_uri: str) -> None:
    """Who does not ask for it pays neither time nor memory; who does is not reported to its makers.
    Nothing but our own lines goes to standard error.
    """
    found = subprocess.run(
        [sys.executable, "-c", IMPORTS, mlflow_uri],
        env=worker_environment(),
        capture_output=True,
        check=True,
        text=True,
    )
    assert (found.stdout, found.stderr) == ("set() True None\n", "")
