"""A named snapshot as a model of MLflow: what `mlflow.pyfunc` loads from "models:/AGENT@live".

The version in MLflow says where the snapshot lies and which digests its manifests must have. Each
byte is compared with them before it is decoded, and decoding makes models from a closed table of
classes: nothing that lies in MLflow or in the repository can run here.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.config import WORKER_VARIABLES, hash_seed
from headrace.errors import CorruptStateError, RequestError, StateError
from headrace.models.codec import CODEC_VERSION
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import Spec, load_spec
from headrace.pipelines.live import partition_of
from headrace.pipelines.probing import Probing
from headrace.state.directory import Identity
from headrace.state.manifest import ShardRef, Versions
from headrace.state.reference import Reference, decode
from headrace.state.repositories import open_repository
from headrace.state.repository import Repository
from headrace.state.restoring import check_build, check_probes
from headrace.state.store import ShardStore, StoreOptions
from headrace.views import Answer, Question

if TYPE_CHECKING:  # of the extra `mlflow`
    import pandas

KEY = "key"
ASKED: Mapping[str, Callable[[Any], Any]] = {"setpoint": float, "item": str, "k": int}
"""Columns, besides `key` and the features, that a question may have."""
COLUMNS = (
    "score", "label", "probabilities", "decision", "value", "items", "cold", "updates", "offset",
)  # fmt: skip
"""Of the answers; see `headrace.views.Answer`."""


def _load_pyfunc(path: str) -> SnapshotModel:
    """What MLflow calls. `path`: the file `snapshot.json` of a version."""
    return SnapshotModel(decode(Path(path).read_bytes()))


class SnapshotModel:
    """An agent as it was in a snapshot: it answers as the service did there, and never learns.

    Making one fetches the whole snapshot into a temporary directory, which goes with it. Raises
    CorruptStateError if something is not what the digests say, OtherBuildError if another build
    wrote it and it does not go on here as there, StateError if the repository cannot be reached.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.spec = _spec(reference)
        if hash_seed() != WORKER_VARIABLES["PYTHONHASHSEED"]:
            warnings.warn(
                "the order of sets decides what some models answer: start Python with"
                " PYTHONHASHSEED=0, as the service does",
                stacklevel=2,
            )
        self._lock = Lock()  # learners keep what they read last
        self._learners: list[Learner] = []
        directory = TemporaryDirectory(prefix="headrace-snapshot-")
        stores: list[ShardStore] = []
        weakref.finalize(self, _close, stores, directory)
        repository, options = open_repository(reference.repository), StoreOptions()
        for ref in reference.refs():
            place = Path(directory.name) / str(ref.partition)
            _shard(repository, ref, reference, place, self.spec)
            stores.append(ShardStore.open(place, create=False, options=options))
            self._learners.append(Learner(self.spec, _origin(reference, ref), stores[-1]))

    def predict(
        self, model_input: pandas.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pandas.DataFrame:
        """One answer a row. Changes nothing.

        Columns: `key`, the features by name (empty: missing), and where the spec asks for them
        `setpoint`, `item`, `k`. Returned are score, label, probabilities, decision, value, items,
        cold, updates and offset, with the index of the input. Raises RequestError, which names the
        row, for what the spec does not allow.
        """
        import pandas

        if KEY not in model_input.columns:
            raise RequestError("invalid_request", f"a column `{KEY}` must say whose model answers")
        rows = model_input.to_dict("records")
        with self._lock:
            answers = [self._answer(number, row) for number, row in enumerate(rows)]
        return pandas.DataFrame(answers, index=model_input.index, columns=list(COLUMNS))

    def _answer(self, number: int, row: Mapping[Any, Any]) -> dict[str, Any]:
        given = {str(name): value for name, value in row.items() if not _is_missing(value)}
        key = str(given.pop(KEY, ""))
        asked = {
            name: as_type(given.pop(name))
            for name, as_type in ASKED.items()
            if name in given and name not in self.spec.features
        }
        partition = partition_of(key, len(self._learners))
        next_offset = self.reference.shards[partition].next_offset
        question = Question(agent=self.spec.agent, key=key, features=given, **asked)
        try:
            return _columns(self._learners[partition].predict(question, next_offset))
        except RequestError as error:
            text = f"row {number}: {error.text}"
            raise RequestError(error.code, text, violations=error.violations) from None


def _spec(reference: Reference) -> Spec:
    """The spec that the shards' manifests name. Raises CorruptStateError if it is another one."""
    spec = load_spec(msgspec.json.encode(reference.spec))
    if (spec.digest, spec.agent) != (reference.spec_digest, reference.agent):
        raise CorruptStateError(
            f"the spec beside {reference.snapshot_id} is not that of the snapshot: it was altered"
        )
    if KEY in spec.features:
        raise StateError(
            f"agent {spec.agent!r} has a feature `{KEY}`, and a table has one column of that name:"
            " ask the service instead"
        )
    return spec


def _shard(
    repository: Repository, ref: ShardRef, reference: Reference, place: Path, spec: Spec
) -> None:
    """Put a shard's files at `place`, each compared with the manifest, that with its digest; what
    another build wrote, if its probes reproduce.
    """
    manifest = repository.manifest(*ref)
    said = (manifest.agent, manifest.spec_digest, manifest.partitions, manifest.next_offset)
    at = reference.shards[ref.partition]
    if said != (reference.agent, reference.spec_digest, len(reference.shards), at.next_offset):
        raise CorruptStateError(
            f"the manifest of {ref.topic}@{ref.partition} in {ref.snapshot_id} is of another"
            " snapshot than the version in MLflow says: it was altered there"
        )
    build = _this_build()
    if not manifest.probes:
        check_build(manifest, build)
    repository.fetch(manifest.files, place)
    if manifest.versions != build:
        probing = Probing(build)
        probing.specs = lambda agent, digest: spec
        check_probes(manifest, place, build, probing.accepts)


def _this_build() -> Versions:
    identity = Identity.of_this_build(
        app="", cluster_id="", codec=str(CODEC_VERSION), hash_seed=hash_seed()
    )
    return identity.versions


def _origin(reference: Reference, ref: ShardRef) -> Origin:
    return Origin(
        agent=reference.agent,
        spec_version=reference.spec_version,
        epoch=reference.epoch,
        topic=reference.topic,
        partition=ref.partition,
    )


def _columns(answer: Answer) -> dict[str, Any]:
    """An answer as a row of a table."""
    standing = answer.standing
    return {
        "score": answer.score,
        "label": answer.label,
        "probabilities": answer.probabilities,
        "decision": answer.decision,
        "value": answer.value,
        "items": [msgspec.to_builtins(item) for item in answer.items],
        "cold": standing.cold,
        "updates": standing.updates,
        "offset": standing.offset,
    }


def _is_missing(value: object) -> bool:
    import pandas

    return bool(pandas.api.types.is_scalar(value) and pandas.isna(value))


def _close(stores: Sequence[ShardStore], directory: TemporaryDirectory[str]) -> None:
    for store in stores:
        store.close()
    directory.cleanup()
