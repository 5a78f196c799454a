"""Snapshots loaded without the service, as MLflow loads them; nothing of MLflow is needed here."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas
import pytest

from headrace.config import hash_seed
from headrace.errors import CorruptStateError, OtherBuildError, RequestError, StateError
from headrace.mlflow_model import SnapshotModel, _load_pyfunc
from headrace.models import probes
from headrace.models.codec import CODEC_VERSION
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.spec import Spec, load_spec
from headrace.pipelines.live import partition_of
from headrace.ports import Rows
from headrace.state.checkpoints import shard_files
from headrace.state.directory import Identity
from headrace.state.manifest import Manifest, Versions
from headrace.state.reference import Reference, ShardAt, encode
from headrace.state.repositories import open_repository
from headrace.state.store import ShardMeta, ShardStore
from headrace.views import Answer, Question
from tests.models.histories import BEGAN_MS, KEYS, SPECS, records

PARTITIONS = 2
BUILD = Identity.of_this_build(
    app="", cluster_id="", codec=str(CODEC_VERSION), hash_seed=hash_seed()
).versions
ASKED = [(key, 0.1 * n, 1 - 0.2 * n) for key in (*KEYS, "nobody") for n in range(3)]


class Kept(NamedTuple):
    """A snapshot in a repository, and the learners that it was taken of."""

    reference: Reference
    learners: list[Learner]


def kept(
    tmp_path: Path,
    spec: Spec,
    versions: Versions = BUILD,
    probed: Callable[[Spec, Rows], bytes] = lambda spec, rows: b"",
) -> Kept:
    """A snapshot of an agent that has learned; `probed` makes its probes."""
    url = f"file://{tmp_path / 'repository'}"
    repository = open_repository(url)
    learners, shards = [], []
    for partition in range(PARTITIONS):
        origin = Origin(spec.agent, 1, 1, "t", partition)
        store = ShardStore.open(tmp_path / f"shard{partition}", create=True)
        learner = Learner(spec, origin, store)
        keys = [key for key in KEYS if partition_of(key, PARTITIONS) == partition]
        batch = records(partition, 200, keys=keys)
        learner.step(batch)
        meta = ShardMeta(
            next_offset=len(batch) + partition,
            epoch=1,
            spec_digest=spec.digest,
            control_offset=3,
            cluster_id="c",
        )
        store.write(learner.changed(), meta)
        learner.flushed()
        checkpoint = tmp_path / f"checkpoint{partition}"
        store.checkpoint(checkpoint)
        manifest = Manifest(
            snapshot_id=f"{spec.agent}.s1",
            agent=spec.agent,
            epoch=1,
            spec_version=1,
            spec_digest=spec.digest,
            topic="t",
            partition=partition,
            partitions=PARTITIONS,
            next_offset=meta.next_offset,
            applied=None,
            cluster_id="c",
            control_offset=3,
            versions=versions,
            created_ms=BEGAN_MS,
            probes=probed(spec, store),
            files=tuple(repository.add_file(path).entry for path in shard_files(checkpoint)),
        )
        digest = repository.add_manifest(manifest)
        shards.append(ShardAt(next_offset=meta.next_offset, digest=digest))
        learners.append(learner)
    reference = Reference(
        repository=url,
        snapshot_id=f"{spec.agent}.s1",
        agent=spec.agent,
        epoch=1,
        spec_version=1,
        spec=spec.to_dict(),
        spec_digest=spec.digest,
        topic="t",
        created_ms=BEGAN_MS,
        shards=tuple(shards),
    )
    return Kept(reference, learners)


def questions(spec: Spec) -> list[dict[str, Any]]:
    """Questions about all keys, with what the spec asks for, as rows of a table."""
    rows: list[dict[str, Any]] = []
    for key, one, other in ASKED:
        row: dict[str, Any] = {"key": key, "v0": one, "v1": other, "setpoint": 0.5}
        row |= dict.fromkeys(("v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"), one)
        row |= {"land": "here" if one else None, "night": bool(one), "shop": "shop 3"}
        row |= {"item": "item 3", "k": 2}
        wanted = {"key", *spec.features}
        wanted |= {"item", "k"} if spec.kind == "ranker" else {"setpoint"}
        rows.append({name: value for name, value in row.items() if name in wanted})
    return rows


def answered(kept: Kept, row: dict[str, Any]) -> Answer:
    """What the learner says that the snapshot was taken of."""
    features = dict(row)
    key = features.pop("key")
    asked = {name: features.pop(name) for name in ("setpoint", "item", "k") if name in features}
    partition = partition_of(key, PARTITIONS)
    question = Question(agent=kept.reference.agent, key=key, features=features, **asked)
    next_offset = kept.reference.shards[partition].next_offset
    return kept.learners[partition].predict(question, next_offset)


@pytest.fixture
def tree(tmp_path: Path) -> Kept:
    return kept(tmp_path, SPECS["tree"])


@pytest.mark.parametrize("name", sorted(SPECS))
def test_agents_of_every_kind_answer_bit_by_bit(tmp_path: Path, name: str) -> None:
    """Whatever is asked, of known keys and unknown ones, over all partitions, twice."""
    spec = SPECS[name]
    taken = kept(tmp_path, spec)
    model = SnapshotModel(taken.reference)
    rows = questions(spec)
    wanted = [answered(taken, row) for row in rows]
    table = pandas.DataFrame(rows, index=[f"row {n}" for n in range(len(rows))])
    for _ in range(2):
        found = model.predict(table)
        assert list(found.index) == list(table.index)
        for row, answer in zip(found.to_dict("records"), wanted, strict=True):
            assert same(row["score"], answer.score)
            assert same(row["value"], answer.value)
            assert same(row["label"], answer.label)
            assert same(row["decision"], answer.decision)
            assert row["probabilities"] == answer.probabilities
            assert row["items"] == [msgspec.to_builtins(item) for item in answer.items]
            standing = answer.standing
            assert (row["cold"], row["updates"]) == (standing.cold, standing.updates)
            assert row["offset"] == standing.offset
    assert len(wanted) == len(ASKED)


def same(found: object, wanted: object) -> bool:
    """Whether a cell holds that; an empty one is None."""
    return bool(pandas.isna(found)) if wanted is None else found == wanted


def test_it_is_loaded_from_the_file_of_a_version(tmp_path: Path, tree: Kept) -> None:
    """MLflow gives the path of what `data` names; the model names its snapshot."""
    (tmp_path / "snapshot.json").write_bytes(encode(tree.reference))
    model = _load_pyfunc(str(tmp_path / "snapshot.json"))
    assert model.reference == tree.reference


def test_what_it_fetched_goes_with_it(
    tree: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No store stays open, and no copy of the state stays on the disk."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    model = SnapshotModel(tree.reference)
    assert len(list(place.glob("headrace-snapshot-*/*"))) == PARTITIONS
    del model
    gc.collect()
    assert list(place.iterdir()) == []


def test_another_spec_beside_the_snapshot_is_refused(tree: Kept) -> None:
    """Who can write into MLflow cannot have the state read with another spec."""
    spec = dict(tree.reference.spec)
    spec["label"] = {**spec["label"], "field": "$.v3"}
    altered = msgspec.structs.replace(tree.reference, spec=spec)
    with pytest.raises(CorruptStateError, match="not that of the snapshot"):
        SnapshotModel(altered)
    digest = load_spec(msgspec.json.encode(spec)).digest
    with pytest.raises(CorruptStateError, match="altered there"):
        SnapshotModel(msgspec.structs.replace(altered, spec_digest=digest))


def test_another_position_than_the_manifests_is_refused(tree: Kept) -> None:
    """Answers say at which offset they were made: nobody else can say another."""
    shards = tuple(ShardAt(next_offset=7, digest=s.digest) for s in tree.reference.shards)
    with pytest.raises(CorruptStateError, match="altered there"):
        SnapshotModel(msgspec.structs.replace(tree.reference, shards=shards))


def test_a_partition_less_is_refused(tree: Kept) -> None:
    """Keys would be looked for in the wrong one."""
    with pytest.raises(CorruptStateError, match="altered there"):
        SnapshotModel(msgspec.structs.replace(tree.reference, shards=tree.reference.shards[:1]))


@pytest.mark.parametrize("what", ["manifests", "blobs"])
def test_one_altered_byte_in_the_repository_is_refused(
    tree: Kept, tmp_path: Path, what: str
) -> None:
    """Nothing is decoded that is not what the version in MLflow vouches for."""
    files = [path for path in (tmp_path / "repository" / what).rglob("*") if path.is_file()]
    for path in files:
        content = bytearray(path.read_bytes())
        if content:
            content[len(content) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(content)
    with pytest.raises(CorruptStateError):
        SnapshotModel(tree.reference)


def test_the_state_of_another_build_is_refused(tmp_path: Path) -> None:
    """Another River may answer otherwise: the text says which build wrote it."""
    theirs = msgspec.structs.replace(BUILD, river="0.1.0")
    taken = kept(tmp_path, SPECS["tree"], theirs)
    with pytest.raises(OtherBuildError, match=r"river 0\.1\.0"):
        SnapshotModel(taken.reference)


def test_the_state_of_another_build_is_taken_if_its_probes_reproduce(tmp_path: Path) -> None:
    """It answers as that of this build does."""
    theirs = msgspec.structs.replace(BUILD, river="0.1.0")
    taken = kept(tmp_path, SPECS["tree"], theirs, probes.make)
    rows = pandas.DataFrame({"key": ["ada"], "v0": [0.5], "v1": [0.5]})
    assert not SnapshotModel(taken.reference).predict(rows)["cold"][0]


def test_the_state_of_another_build_is_refused_if_they_do_not(tmp_path: Path) -> None:
    """One digit of one digest is enough, and which difference it was is told."""
    theirs = msgspec.structs.replace(BUILD, river="0.1.0")
    taken = kept(tmp_path, SPECS["tree"], theirs, lambda *of: probes.make(*of)[:-1] + b"x")
    with pytest.raises(OtherBuildError, match="learns otherwise"):
        SnapshotModel(taken.reference)


def test_what_the_spec_does_not_allow_is_told_with_its_row(tree: Kept) -> None:
    """The service's own words, and which row of the table it was."""
    model = SnapshotModel(tree.reference)
    rows = pandas.DataFrame({"key": ["ada", "bob"], "v0": [0.5, None], "v1": [0.5, 0.5]})
    with pytest.raises(RequestError, match=r"row 1: .*missing"):
        model.predict(rows)
    with pytest.raises(RequestError, match=r"row 0: .*no feature `power`"):
        model.predict(rows.assign(power=3.0))


def test_a_table_without_keys_is_refused(tree: Kept) -> None:
    """It must say whose model answers."""
    with pytest.raises(RequestError, match="a column `key`"):
        SnapshotModel(tree.reference).predict(pandas.DataFrame({"v0": [0.5]}))


def test_a_feature_that_is_called_key_is_refused(tmp_path: Path) -> None:
    """A table has one column of that name; the service can be asked."""
    spec = load_spec(
        "{agent: a, source: {topic: t, key: $.k}, features: {key: {type: number}},"
        " model: linear_model.LinearRegression, label: {field: $.v2}}"
    )
    with pytest.raises(StateError, match="has a feature `key`"):
        SnapshotModel(kept(tmp_path, spec).reference)
