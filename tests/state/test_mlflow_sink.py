"""What MLflow is told, in a sqlite file; tests/service/test_mlflow.py has a real server."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from headrace.errors import ForeignStateError, StateError
from headrace.state import mlflow_sink
from headrace.state.mlflow_sink import Aliases, Identity, Life, MlflowSink, Point
from headrace.state.reference import Reference, decode
from tests.mlflow_place import client_of, free_port
from tests.state.test_reference import REFERENCE

LIFE = Life("fraud", 1, "d1")
NEXT_LIFE = Life("fraud", 3, "d2")


@pytest.fixture
def sink(mlflow_uri: str) -> MlflowSink:
    return MlflowSink(mlflow_uri, "app")


@pytest.fixture
def client(mlflow_uri: str) -> Any:
    return client_of(mlflow_uri)


def named(name: str, **changes: Any) -> Reference:
    return msgspec.structs.replace(REFERENCE, snapshot_id=f"fraud.{name}", **changes)


def identity(reference: Reference) -> Identity:
    return Identity(reference.snapshot_id, reference.digest)


def of(*versions: str) -> frozenset[str]:
    return frozenset(versions)


def test_a_snapshot_becomes_a_version_that_says_all_of_it(sink: MlflowSink, client: Any) -> None:
    """Its tags name id, digest, offsets, epoch, spec and metrics; its source is the run's."""
    sink.register(REFERENCE, LIFE, {"MAE": 0.1 + 0.2})
    version = client.get_model_version("fraud", "1")
    tags = {name.removeprefix("headrace."): value for name, value in version.tags.items()}
    assert (tags["snapshot_id"], tags["digest"]) == identity(REFERENCE)
    assert json.loads(tags["offsets"]) == {"0": 40, "1": 41, "2": 42}
    assert (tags["epoch"], tags["life"], tags["kind"]) == ("2", "1", "named")
    assert (tags["spec_digest"], tags["spec_version"]) == ("5f" * 32, "1")
    assert tags["snapshot_uri"] == "s3://bucket/kept/manifests/fraud.before-friday"
    assert float(tags["metric.MAE"]) == 0.1 + 0.2
    assert version.source.startswith(f"runs:/{version.run_id}/snapshots/fraud.before-friday-")


def test_what_lies_in_a_version_is_a_reference_and_how_to_load_it(
    sink: MlflowSink, client: Any, tmp_path: Path
) -> None:
    """Two small files of text, beside the sqlite file: no state, and nothing that runs."""
    sink.register(REFERENCE, LIFE, {})
    version = client.get_model_version("fraud", "1")
    (directory,) = (tmp_path / "told.artifacts").glob("*/artifacts/snapshots/*")
    assert version.source.endswith(directory.name)
    assert decode((directory / "snapshot.json").read_bytes()) == REFERENCE
    flavour = json.loads((directory / "MLmodel").read_bytes())["flavors"]["python_function"]
    assert (flavour["loader_module"], flavour["data"]) == ("headrace.mlflow_model", "snapshot.json")
    assert len(list(directory.iterdir())) == 2


def test_the_same_snapshot_again_is_nothing_new(sink: MlflowSink, mlflow_uri: str) -> None:
    """Neither from the same sink nor from another one, after a restart."""
    sink.register(REFERENCE, LIFE, {})
    sink.register(REFERENCE, LIFE, {})
    MlflowSink(mlflow_uri, "app").register(REFERENCE, LIFE, {})
    assert sink.versions("fraud") == {identity(REFERENCE): "1"}


def test_another_state_under_a_name_that_was_used_is_a_new_version(sink: MlflowSink) -> None:
    """A snapshot that is deleted leaves its name: what is kept under it later is another one."""
    later = msgspec.structs.replace(REFERENCE, shards=REFERENCE.shards[::-1])
    sink.register(REFERENCE, LIFE, {})
    sink.register(later, LIFE, {})
    assert sink.versions("fraud") == {identity(REFERENCE): "1", identity(later): "2"}


def test_versions_of_others_are_passed_over(sink: MlflowSink, client: Any) -> None:
    """Who puts a version of their own beside ours does not disturb."""
    sink.register(REFERENCE, LIFE, {})
    client.create_model_version("fraud", "s3://theirs/model")
    assert list(sink.versions("fraud").values()) == ["1"]


def test_a_registered_model_of_somebody_else_is_left_alone(sink: MlflowSink, client: Any) -> None:
    """A team's own model that happens to have an agent's name gets neither version nor alias."""
    client.create_registered_model("fraud")
    for verb in (
        lambda: sink.versions("fraud"),
        lambda: sink.register(REFERENCE, LIFE, {}),
        lambda: sink.point("fraud", Aliases(None, None, of())),
    ):
        with pytest.raises(ForeignStateError, match="belongs to somebody else"):
            verb()
    assert client.search_model_versions("name='fraud'") == []
    client.set_registered_model_tag("fraud", "headrace.app", "app")
    assert sink.versions("fraud") == {}


def test_aliases_name_what_they_are_told(sink: MlflowSink, client: Any) -> None:
    """They are set, moved, swapped and taken away, and again is nothing new."""
    for name in ("a", "b"):
        sink.register(named(name), LIFE, {})
    for live, previous in (("1", None), ("2", "1"), ("2", "1"), ("1", "2"), (None, "1")):
        sink.point("fraud", Aliases(live, previous, of("1", "2")))
        aliases = client.get_registered_model("fraud").aliases
        found = {alias: str(version) for alias, version in aliases.items()}
        wanted = {"live": live, "previous": previous}
        assert found == {alias: version for alias, version in wanted.items() if version}


def test_what_was_live_before_a_new_deploy_stays_the_previous_one(
    sink: MlflowSink, client: Any
) -> None:
    """A new life has no live version until it has a snapshot, and a previous one from the start."""
    sink.register(named("a"), LIFE, {})
    sink.point("fraud", Aliases("1", None, of("1")))
    steps: list[tuple[Aliases, dict[str, int]]] = [
        (Aliases(None, None, of()), {"previous": 1}),
        (Aliases(None, None, of()), {"previous": 1}),
        (Aliases("2", None, of("2")), {"live": 2, "previous": 1}),
        (Aliases("2", None, of("2")), {"live": 2, "previous": 1}),
    ]
    for aliases, wanted in steps:
        if aliases.live:
            sink.register(named("b"), NEXT_LIFE, {})
        sink.point("fraud", aliases)
        found = client.get_registered_model("fraud").aliases
        assert {alias: int(version) for alias, version in found.items()} == wanted


def test_an_agent_without_versions_has_no_registered_model(sink: MlflowSink, client: Any) -> None:
    """Only snapshots make one: aliases alone do not."""
    sink.point("fraud", Aliases(None, None, of()))
    assert client.search_registered_models() == []


def test_metrics_go_to_the_run_of_a_life(sink: MlflowSink, client: Any, mlflow_uri: str) -> None:
    """One run a life, found again after a restart; it ends when the next life's begins."""
    points = [Point(at_ms=1_000 + n, records=10 * n, values={"MAE": n / 2}) for n in range(3)]
    sink.log(LIFE, points[:2])
    MlflowSink(mlflow_uri, "app").log(LIFE, points[1:])
    MlflowSink(mlflow_uri, "app").log(NEXT_LIFE, points[:1])
    runs = client.search_runs([client.get_experiment_by_name("app").experiment_id])
    found = {run.info.run_name: run for run in runs}
    assert {name: run.info.status for name, run in found.items()} == {
        "fraud-1": "FINISHED",
        "fraud-3": "RUNNING",
    }
    told = client.get_metric_history(found["fraud-1"].info.run_id, "MAE")
    assert [(m.timestamp, m.step, m.value) for m in told] == [
        (1_000, 0, 0.0), (1_001, 10, 0.5), (1_002, 20, 1.0),
    ]  # fmt: skip


def test_more_values_than_a_request_takes_go_in_several(
    sink: MlflowSink, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them arrive."""
    monkeypatch.setattr(mlflow_sink, "BATCH_MAX", 3)
    sink.log(LIFE, [Point(at_ms=n, records=n, values={"MAE": 0.5, "R2": 1.0}) for n in range(5)])
    (run,) = client.search_runs([client.get_experiment_by_name("app").experiment_id])
    assert {len(client.get_metric_history(run.info.run_id, name)) for name in ("MAE", "R2")} == {5}


def test_a_run_that_somebody_deleted_is_made_again(sink: MlflowSink, client: Any) -> None:
    """The call that finds it out fails, the next one goes well."""
    point = Point(at_ms=1, records=1, values={"MAE": 0.5})
    sink.log(LIFE, [point])
    (run,) = client.search_runs([client.get_experiment_by_name("app").experiment_id])
    client.delete_run(run.info.run_id)
    with pytest.raises(StateError):
        sink.log(LIFE, [point])
    sink.log(LIFE, [point])
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_a_new_file_gets_its_tables_and_directories(tmp_path: Path) -> None:
    """Nothing has to be made by hand."""
    file = tmp_path / "new" / "deep" / "told.db"
    assert MlflowSink(f"sqlite:///{file}", "app").versions("fraud") == {}
    assert file.exists()


def test_a_server_that_is_away_is_told_of_at_once() -> None:
    """The error names the place and says what is the matter; nothing is tried for minutes."""
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StateError, match=f"MLflow at {uri}: .*refused"):
        MlflowSink(uri, "app").versions("fraud")


def test_a_file_that_is_none_of_sqlite_is_told_of(tmp_path: Path) -> None:
    """What SQLAlchemy raises ends nobody either."""
    (tmp_path / "told.db").write_bytes(b"this is no database " * 100)
    with pytest.raises(StateError, match=r"MLflow at sqlite:.*not a database"):
        MlflowSink(f"sqlite:///{tmp_path}/told.db", "app").versions("fraud")


def test_a_sink_that_is_closed_tells_nothing_more(sink: MlflowSink, mlflow_uri: str) -> None:
    """A stop waits for one request and not for all that are owed."""
    sink.close()
    with pytest.raises(StateError, match="going down"):
        sink.register(REFERENCE, LIFE, {})
    with sqlite3.connect(urlsplit(mlflow_uri).path) as told:
        assert told.execute("select count(*) from registered_models").fetchone() == (0,)
    told.close()
