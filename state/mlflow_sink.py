"""MLflow, as far as it is told of agents: the only file that imports it, at the first call.

An agent is a registered model, a named snapshot a version of it, an agent's life a run with its
prequential metrics. A version's artifacts are two small files: how to load it (`MLmodel`) and where
the snapshot lies (`headrace.state.reference`); the state itself stays in the repository.

MLflow is a copy for people. Nothing is ever read from it but what this has written there, in order
to write nothing twice.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from headrace import interpreter
from headrace.config import settle_mlflow
from headrace.errors import ForeignStateError, HeadraceError, StateError
from headrace.extras import install
from headrace.state.disk import make_directory
from headrace.state.reference import Reference, encode

LOADER = "headrace.mlflow_model"
"""The module by which `mlflow.pyfunc` loads a version."""
BATCH_MAX = 1_000
"""Metric values in one request: MLflow takes no more."""
_LIVE, _PREVIOUS = "live", "previous"
_SQLITE = "sqlite:///"
_PAGE = 1_000
_TEXT_MAX = 500  # characters of what MLflow says: it quotes whole requests


class Identity(NamedTuple):
    """A snapshot, and the digest over its manifests: the name alone may be used again."""

    snapshot_id: str
    digest: str


class Life(NamedTuple):
    """An agent from a deploy to its delete. `deploy_id`: the control id of the deploy."""

    agent: str
    life: int
    deploy_id: str


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics as they stood at a time (ms since 1970), after so many records of the log."""

    at_ms: int
    records: int
    values: dict[str, float]


class Aliases(NamedTuple):
    """Versions that aliases name. `of_life`: all versions of the agent's present life."""

    live: str | None
    previous: str | None
    of_life: frozenset[str]


def check_installed() -> None:
    """Raises StateError where MLflow is not; it is not imported yet."""
    if find_spec("mlflow") is None:
        raise StateError(f"--mlflow needs the extra mlflow: in a checkout, `{install('mlflow')}`")


class MlflowSink:
    """What an app tells the MLflow at `uri`: sqlite:///FILE or http://HOST:PORT.

    Order of calls: any verb, one at a time, in whatever thread; each may take seconds. `close` at
    any time, after which every verb raises. All raise StateError if MLflow is away or refuses, and
    so does making one where MLflow is not installed. What was done is not done again by a second
    call, so after an error all may be called again.

    >>> sink = MlflowSink("http://127.0.0.1:9", "headrace")  # nothing is asked yet
    >>> sink.close()
    >>> sink.versions("fraud")
    Traceback (most recent call last):
    headrace.errors.StateError: MLflow is told nothing more: the worker is going down
    """

    def __init__(self, uri: str, app: str) -> None:
        check_installed()
        self._uri = uri
        self._app = app
        self._made: Any = None  # the client, from the first call on
        self._closed = False
        self._experiment_id = ""
        self._runs: dict[Life, str] = {}

    def close(self) -> None:
        """Let the call that is under way be the last request."""
        self._closed = True

    def versions(self, agent: str) -> dict[Identity, str]:
        """The versions that are snapshots of ours; of one that is there twice, the older.

        Raises ForeignStateError if the registered model of that name is somebody else's.
        """
        with _Explained(self._uri, self._forget):
            if self._model(agent) is None:
                return {}
            found: dict[Identity, str] = {}
            for version in self._all_versions(agent):
                tags = version.tags
                identity = Identity(tags.get(_SNAPSHOT, ""), tags.get(_DIGEST, ""))
                known = found.get(identity)
                if identity.digest and (known is None or int(version.version) < int(known)):
                    found[identity] = str(version.version)
            return found

    def register(self, reference: Reference, life: Life, metrics: Mapping[str, float]) -> None:
        """Make a snapshot a version, unless it is one: model, artifacts, version, in that order."""
        identity = Identity(reference.snapshot_id, reference.digest)
        if identity in self.versions(reference.agent):
            return
        with _Explained(self._uri, self._forget):
            if self._model(reference.agent) is None:
                tags = {_APP: self._app}
                self._client.create_registered_model(reference.agent, tags=tags)
            run_id = self._run(life)
            place = f"snapshots/{reference.snapshot_id}-{reference.digest[:12]}"
            with TemporaryDirectory(prefix="headrace-mlflow-") as directory:
                for name, content in _model_files(reference).items():
                    (Path(directory) / name).write_bytes(content)
                self._client.log_artifacts(run_id, directory, place)
            self._client.create_model_version(
                reference.agent,
                f"runs:/{run_id}/{place}",
                run_id,
                tags=_tags(reference, life, metrics),
                await_creation_for=0,
            )

    def point(self, agent: str, aliases: Aliases) -> None:
        """Let the aliases name these versions.

        What was live in a life before becomes, and stays, the previous one as long as this life has
        none of its own.
        """
        with _Explained(self._uri, self._forget):
            model = self._model(agent)
            if model is None:
                return
            now = {alias: str(version) for alias, version in model.aliases.items()}
            previous = aliases.previous
            if previous is None:
                before = [now.get(_LIVE), now.get(_PREVIOUS)]
                older = [version for version in before if version not in (None, *aliases.of_life)]
                previous = next(iter(older), None)
            # In this order: what is live now is not forgotten if only the first one is done.
            for alias, version in ((_PREVIOUS, previous), (_LIVE, aliases.live)):
                if version is not None and version != now.get(alias):
                    self._client.set_registered_model_alias(agent, alias, version)
                elif version is None and alias in now:
                    self._client.delete_registered_model_alias(agent, alias)

    def log(self, life: Life, points: Sequence[Point]) -> None:
        """Add metrics to the run of that life. Points that are there already change nothing."""
        with _Explained(self._uri, self._forget):
            metric = _mlflow().entities.Metric
            values = [
                metric(name, value, point.at_ms, point.records)
                for point in points
                for name, value in point.values.items()
            ]
            run_id = self._run(life)
            for begin in range(0, len(values), BATCH_MAX):
                self._client.log_batch(run_id, metrics=values[begin : begin + BATCH_MAX])

    def _forget(self) -> None:
        """After an error: somebody may have deleted what was found before."""
        self._runs.clear()
        self._experiment_id = ""

    # -- what is there -----------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        if self._closed:
            raise StateError("MLflow is told nothing more: the worker is going down")
        if self._made is None:
            self._made = _client_of(self._uri)
        return self._made

    def _model(self, agent: str) -> Any | None:
        """The agent's registered model, None if there is none. Raises ForeignStateError."""
        try:
            model = self._client.get_registered_model(agent)
        except _mlflow().exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        app = model.tags.get(_APP)
        if app != self._app:
            owner = f"app {app!r}" if app else "somebody else"
            raise ForeignStateError(
                f"MLflow at {self._uri}: the registered model {agent!r} belongs to {owner}, and is"
                f" left alone. Rename it, or give it the tag {_APP}={self._app} to have it go on"
            )
        return model

    def _all_versions(self, agent: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_model_versions(
                f"name='{agent}'", max_results=_PAGE, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _run(self, life: Life) -> str:
        """The run of that life; those of earlier lives are ended when it is made."""
        if life in self._runs:
            return self._runs[life]
        experiment_id = self._experiment()
        theirs = f"tags.`{_AGENT}` = '{life.agent}' and tags.`{_APP}` = '{self._app}'"
        runs = self._client.search_runs([experiment_id], theirs)
        mine = [run for run in runs if run.data.tags.get(_DEPLOY) == life.deploy_id]
        if mine:
            run_id = str(mine[-1].info.run_id)  # the oldest
        else:
            tags = {_APP: self._app, _AGENT: life.agent, _LIFE: str(life.life)}
            run = self._client.create_run(
                experiment_id,
                run_name=f"{life.agent}-{life.life}",
                tags={**tags, _DEPLOY: life.deploy_id},
            )
            run_id = str(run.info.run_id)
            for run in runs:
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run.info.run_id)
        self._runs[life] = run_id
        return run_id

    def _experiment(self) -> str:
        if not self._experiment_id:
            found = self._client.get_experiment_by_name(self._app)
            if found is not None:
                self._experiment_id = str(found.experiment_id)
            else:
                artifacts = _artifacts_of(self._uri)
                self._experiment_id = self._client.create_experiment(self._app, artifacts)
        return self._experiment_id


_APP = "headrace.app"
_AGENT = "headrace.agent"
_LIFE = "headrace.life"
_DEPLOY = "headrace.deploy"
_SNAPSHOT = "headrace.snapshot_id"
_DIGEST = "headrace.digest"


def _tags(reference: Reference, life: Life, metrics: Mapping[str, float]) -> dict[str, str]:
    """What a version says of its snapshot. Only named ones become versions."""
    offsets = {str(number): shard.next_offset for number, shard in enumerate(reference.shards)}
    return {
        _SNAPSHOT: reference.snapshot_id,
        _DIGEST: reference.digest,
        _LIFE: str(life.life),
        "headrace.snapshot_uri": reference.url,
        "headrace.kind": "named",
        "headrace.created_ms": str(reference.created_ms),
        "headrace.epoch": str(reference.epoch),
        "headrace.spec_digest": reference.spec_digest,
        "headrace.spec_version": str(reference.spec_version),
        "headrace.topic": reference.topic,
        "headrace.offsets": json.dumps(offsets),
        **{f"headrace.metric.{name}": repr(value) for name, value in metrics.items()},
    }


def _model_files(reference: Reference) -> dict[str, bytes]:
    """What lies in a version: JSON is YAML, too, so nothing has to write that."""
    flavour = {
        "loader_module": LOADER,
        "data": "snapshot.json",
        "python_version": platform.python_version(),
    }
    model = {"flavors": {"python_function": flavour}}
    return {"MLmodel": json.dumps(model, indent=2).encode(), "snapshot.json": encode(reference)}


@cache
def _mlflow() -> Any:
    """The package, imported at the first call: under its settings, and without a search for garbage
    among all that it loads.
    """
    settle_mlflow()
    with interpreter.loading():
        import mlflow
        import mlflow.entities
        import mlflow.exceptions
    return mlflow


def _client_of(uri: str) -> Any:
    """A client. It makes the tables of a sqlite file that has none."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells every table that it makes
    if not uri.startswith(_SQLITE):
        return _mlflow().MlflowClient(uri, uri)
    make_directory(_file_of(uri).parent)
    mlflow = _mlflow()
    with interpreter.loading():  # SQLAlchemy, with the first call
        client = mlflow.MlflowClient(uri, uri)
        client.search_registered_models(max_results=1)
        return client


def _artifacts_of(uri: str) -> str | None:
    """Where the artifacts of a sqlite file go: beside it; a server knows where itself."""
    if not uri.startswith(_SQLITE):
        return None
    return _file_of(uri).with_suffix(".artifacts").as_uri()


def _file_of(uri: str) -> Path:
    return Path(uri.removeprefix(_SQLITE)).absolute()


class _Explained:
    """Turns whatever MLflow raises into a StateError.

    It has no root of its own for its errors: SQLAlchemy's, those of requests, of files and of JSON
    come through, too. None of them may end a worker.
    """

    def __init__(self, uri: str, forget: Callable[[], None]) -> None:
        self._uri = uri
        self._forget = forget

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, HeadraceError | AssertionError):
            return
        self._forget()
        text = " ".join(str(error).split())[:_TEXT_MAX]
        raise StateError(f"MLflow at {self._uri}: {text or type(error).__name__}") from error
