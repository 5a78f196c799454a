"""A new spec for models that have learned: `migration: keep`.

May change, because no state depends on it: `decide`, `emit`, `state`, the source's `time` and
`start`, and the ranges of features and label. May change, and is carried over: features may be
added behind the others, if events may lack them, and one that was there may get `missing: skip`;
parameters that River declares mutable (`_mutable_attributes`) are set on each model as River's
`mutate` does it. With another set of `metrics` the measuring begins anew. Whatever else differs is
refused.

What is mutable is River's word, and so is what it does: a forest's new `delta` is for the trees
that it plants from then on. An optimizer keeps its kind and what it remembers; only its rate
changes. A loss, a schedule of rates and an initializer may be replaced.

What waits for a label is learned by the model as it is then, and a key that learns no more (`full`)
stays so. A recommender's rows hold no parameters: the new ones count from the next event on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from headrace.errors import CorruptStateError, SpecError, Violation
from headrace.models import codec, reverting, stored
from headrace.models.compiled.linear import LinearForm
from headrace.models.curves import ROW as SCORES_ROW
from headrace.models.exercise import learn
from headrace.models.forms import form_of
from headrace.models.memory_rows import MemoryRows
from headrace.models.metrics import HITS
from headrace.models.metrics import ROW as METRICS_ROW
from headrace.models.panics import failures
from headrace.models.parameter_changes import Changes, changes_between
from headrace.models.recommend.row_model import RowModel, row_model
from headrace.models.rehearsal import made_up
from headrace.models.slots import KEY_ROW, SHARED_ROW
from headrace.models.spec import Feature, Recommend, Spec
from headrace.ports import Rows

__all__ = ["Write", "carrier", "keep_problems", "migrated", "resumed"]

Write: TypeAlias = reverting.Write

HINT: Final = "deploy it with migration: refold or reset"


def keep_problems(old: Spec, new: Spec) -> list[Violation]:
    """Why the models of `old` cannot go on under `new`; empty: they can. Paths are those of `new`.

    Takes some milliseconds: models of both are built, taught a few made-up events, and carried.

    >>> from headrace.models.spec import load_spec
    >>> text = '''
    ... {agent: a, source: {topic: t, key: $.id}, features: {x: {type: number}},
    ...  label: {field: $.y},
    ...  model: {linear_model.LinearRegression: {intercept_init: 0.0, l2: 0.0}}}'''
    >>> old = load_spec(text)
    >>> keep_problems(old, load_spec(text.replace("l2: 0.0", "l2: 0.1")))
    []
    >>> print(keep_problems(old, load_spec(text.replace("init: 0.0", "init: 0.1")))[0].path)
    $.model.linear_model.LinearRegression.intercept_init
    """
    found = [*_sections(old, new), *_features(old, new)]
    changes, refused = changes_between(old.build_model(""), new.build_model(""))
    found += [Violation(path, text, HINT) for path, text in refused]
    if not found:
        failure = _rehearsed(old, new, changes)
        found += [] if failure is None else [Violation("$.model", failure, HINT)]
    return found


def carrier(old: Spec, new: Spec, key: str) -> Callable[[bytes], bytes] | None:
    """What makes the bytes of a key's model under `new` of those under `old`; None: they stay.

    For specs without `keep_problems`. The key counts only where a replaced part is seeded; the
    shared model's is the empty one. The function raises CorruptStateError.
    """
    if old.kind == "ranker":
        return None
    changes, refused = changes_between(old.build_model(key), new.build_model(key))
    assert not refused, refused
    if not changes:
        return None
    before, after = form_of(old), form_of(new)
    if isinstance(before, LinearForm) and isinstance(after, LinearForm):
        # The same numbers among the new parameters: seven times as quick, to the same bytes.
        return lambda data: after.encode(before.decode(data))

    def carried(data: bytes) -> bytes:
        model = codec.decode(data)
        model.mutate(changes)
        return codec.encode(model)

    return carried


def resumed(present: Spec, new: Spec, base: Rows, now: Rows) -> Iterator[Write]:
    """The writes that turn a snapshot's rows, `migrated` to `new`, into a state to go on with.

    `now` has the rows that are left, of the spec `present`. As in a rollback of the whole agent
    what belongs to the log goes on: log time and counters in any case; what waits for a label and
    the metrics only if the models of `present` could go on under `new`, too: else nothing waits,
    and the measuring begins anew. They belong into one batch. Raises CorruptStateError.
    """
    hidden: tuple[bytes, ...] = ()
    if keep_problems(present, new):
        hidden = (KEY_ROW, METRICS_ROW, SCORES_ROW)
    elif _measures(present) != _measures(new):
        hidden = (METRICS_ROW, SCORES_ROW)
    return reverting.whole(new, base, _Without(now, hidden))


class _Without:
    """Rows but those of which the name begins so; see `headrace.ports.Rows`."""

    def __init__(self, rows: Rows, hidden: tuple[bytes, ...]) -> None:
        self._rows = rows
        self._hidden = hidden

    def get(self, row: bytes) -> bytes | None:
        return None if row.startswith(self._hidden) else self._rows.get(row)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for row, data in self._rows.scan(prefix):
            if not row.startswith(self._hidden):
                yield row, data


def migrated(old: Spec, new: Spec, rows: Rows) -> Iterator[Write]:
    """The writes that turn rows of `old` into rows of `new`, for specs without `keep_problems`.

    Nothing is written, and no key's row read, if no parameter differs; else the row of every model,
    at some 20 to 100 µs each. They belong into one batch, and may be drawn piece by piece.

    Raises SpecError if there are problems, and CorruptStateError.
    """
    problems = keep_problems(old, new)
    if problems:
        raise SpecError(problems)
    return _migrated(old, new, rows)


def _migrated(old: Spec, new: Spec, rows: Rows) -> Iterator[Write]:
    if _measures(old) != _measures(new):
        for prefix in (METRICS_ROW, SCORES_ROW):
            for row, _ in rows.scan(prefix):
                yield row, None
    carried = carrier(old, new, "")
    if carried is None:
        return
    names = [SHARED_ROW] if new.shared else (row for row, _ in rows.scan(KEY_ROW))
    seeded = not new.shared and not _alike(old, new)
    for row in names:
        data = rows.get(row)
        if data is None:
            continue
        slot = stored.read(row, data)
        if seeded:
            carried = carrier(old, new, slot.key)
            assert carried is not None
        slot.model = carried(slot.model)
        yield row, stored.written(slot)


def _alike(old: Spec, new: Spec) -> bool:
    """Whether what changes is the same for all keys: no part that comes new has a seed."""
    one, other = (
        codec.encode(changes_between(old.build_model(key), new.build_model(key))[0])
        for key in ("", "\0")
    )
    return one == other


def _measures(spec: Spec) -> tuple[set[str], int | None]:
    k = spec.decide.k if isinstance(spec.decide, Recommend) and HITS in spec.metrics else None
    return set(spec.metrics), k


# -- what is refused -------------------------------------------------------------------------


def _sections(old: Spec, new: Spec) -> Iterator[Violation]:
    pairs: list[tuple[str, Any, Any]] = [
        ("$.agent", old.agent, new.agent),
        ("$.source.topic", old.source.topic, new.source.topic),
        ("$.source.key", old.source.key, new.source.key),
        ("$.item", old.item, new.item),
        ("$.scope", old.scope, new.scope),
    ]
    if old.label is None or new.label is None:
        pairs.append(("$.label", old.label and old.label.path, new.label and new.label.path))
    else:
        pairs += [
            ("$.label.path", old.label.path, new.label.path),
            ("$.label.type", old.label.type, new.label.type),
            ("$.label.later", old.label.later, new.label.later),
            ("$.label.after", old.label.after_ms, new.label.after_ms),
            ("$.label.as", old.label.change, new.label.change),
        ]
    for path, before, after in pairs:
        if before != after:
            yield Violation(path, f"is {after!r}, and was {before!r}", HINT)


def _features(old: Spec, new: Spec) -> Iterator[Violation]:
    kept = [name for name in old.features if name in new.features]
    for name in old.features:
        if name not in new.features:
            yield Violation(f"$.features.{name}", "is gone, and the models know it", HINT)
    if list(new.features)[: len(kept)] != kept:
        text = "are in another order: first those that were there, then new ones"
        yield Violation("$.features", text, HINT)
    for name, feature in new.features.items():
        if name in old.features:
            yield from _feature(f"$.features.{name}", old.features[name], feature)
        elif feature.missing == "reject":
            text = "is new, and what waits or was learned before does not have it"
            yield Violation(f"$.features.{name}.missing", text, "declare missing: skip, or a value")


def _feature(path: str, old: Feature, new: Feature) -> Iterator[Violation]:
    for name in ("path", "type", "encode", "buckets"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Violation(f"{path}.{name}", f"is {after!r}, and was {before!r}", HINT)
    if new.missing != "skip" and (old.missing, old.default) != (new.missing, new.default):
        yield Violation(f"{path}.missing", "may only become `skip`", HINT)


# -- the trial -------------------------------------------------------------------------------


def _rehearsed(old: Spec, new: Spec, changes: Changes) -> str | None:
    """What goes wrong when a taught model is carried over and taught on; None: nothing."""
    try:
        if new.kind == "ranker":
            _rehearse_rows(old, new)
            return None
        return _rehearse_model(old, new, changes)
    except failures(CorruptStateError) as error:
        return f"fails when a model goes on with these parameters: {type(error).__name__}: {error}"


def _rehearse_model(old: Spec, new: Spec, changes: Changes) -> str | None:
    fresh = old.build_model("")
    fresh.mutate(changes)
    if codec.encode(fresh) != codec.encode(new.build_model("")):
        return "keeps a changed parameter in more places than River's mutate reaches"
    model = old.build_model("")
    for x, y in made_up(old.features, old.kind):
        learn(model, x, y)
    model.mutate(changes)
    form = form_of(new)
    going_on = form.decode(codec.encode(model))
    for x, y in made_up(new.features, new.kind):
        form.learn(going_on, x, y)
    return None


def _rehearse_rows(old: Spec, new: Spec) -> None:
    rows = MemoryRows()
    for spec in (old, new):
        model = _ranker(spec)
        model.load(rows)
        for number in range(6):
            model.learn_one(f"user {number % 2}", f"item {number % 3}", float(number % 5))
        rows.flush(model)


def _ranker(spec: Spec) -> RowModel:
    model = row_model(spec.build_model(""), spec.state.hot_keys_max)
    assert model is not None
    return model
