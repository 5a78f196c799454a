"""Made-up interactions, and the laws of models in rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headrace.models.memory_rows import MemoryRows
from headrace.models.recommend.row_model import RowModel

Interaction = tuple[str, str, float]


def interactions(count: int, users: int = 60, items: int = 150) -> list[Interaction]:
    """Zipf-like items and some taste, the same in every run."""
    chance = np.random.RandomState(5)
    rows: list[Interaction] = []
    for _ in range(count):
        user = int(chance.randint(users))
        item = min(int(chance.pareto(1.0) * 8) + 10 * (user % 4), items - 1)
        rating = float(np.clip(round(chance.normal(3.5 + (item % 3 - 1) * 0.5, 1.0)), 1, 5))
        rows.append((f"u{user}", f"ï{item}", rating))
    return rows


def fold(model: RowModel, events: Sequence[Interaction]) -> None:
    """Learns all of them."""
    for user, item, y in events:
        model.learn_one(user, item, y)


def check_goes_on_from_its_rows(make: Callable[[], RowModel]) -> None:
    """Flushed and loaded again and again, a model ends with the rows and answers of one fold."""
    events = interactions(1200)
    whole, whole_rows = make(), MemoryRows()
    whole.load(whole_rows)
    fold(whole, events)
    whole_rows.flush(whole)

    rows = MemoryRows()
    for start in range(0, len(events), 150):
        model = make()
        model.load(rows)
        fold(model, events[start : start + 100])
        rows.flush(model)
        fold(model, events[start + 100 : start + 150])
        rows.flush(model)
    assert rows.rows == whole_rows.rows
    assert model.top("u3", 10) == whole.top("u3", 10)
    assert model.top("nobody", 10) == whole.top("nobody", 10)
    assert model.predict_one("u3", "ï7") == whole.predict_one("u3", "ï7")


def check_reading_changes_nothing(make: Callable[[], RowModel]) -> None:
    """Reads of known and unknown users and items leave no changed row, and the same fold after."""
    events = interactions(400)
    read, unread = make(), make()
    rows, unread_rows = MemoryRows(), MemoryRows()
    read.load(rows)
    unread.load(unread_rows)
    for user, item, y in events:
        for someone in (user, "nobody"):
            for thing in (item, "nothing"):
                read.predict_one(someone, thing)
            read.top(someone, 5, candidates=[item, "nothing"], exclude=["nothing"])
            read.top(someone, 5)
            read.popular(someone, 5)
            read.describe(someone)
            read.row(someone)
        read.learn_one(user, item, y)
        unread.learn_one(user, item, y)
    assert rows.flush(read) == unread_rows.flush(unread)
    assert rows.rows == unread_rows.rows
    read.top("u1", 5)
    read.predict_one("nobody", "nothing")
    assert rows.flush(read) == []


def check_top_obeys_its_limits(make: Callable[[], RowModel]) -> None:
    """Seen and excluded items stay out, candidates narrow, unknown ones are left out, k bounds."""
    model = make()
    fold(model, interactions(600))
    seen = {item for user, item, _ in interactions(600) if user == "u1"}
    known = {item for _, item, _ in interactions(600)}
    everything = model.top("u1", 1000)
    assert [scored.item for scored in everything]
    assert {scored.item for scored in everything} == known - seen
    assert [s.score for s in everything] == sorted((s.score for s in everything), reverse=True)
    assert model.top("u1", 7) == everything[:7]
    assert model.top("u1", 0) == ()
    first = everything[0].item
    assert model.top("u1", 7, exclude=[first, "nothing"]) == everything[1:8]
    some = [everything[n].item for n in (5, 2, 9)] + ["nothing"]
    assert model.top("u1", 7, candidates=some) == tuple(everything[n] for n in (2, 5, 9))
    assert {s.item for s in model.top("u1", 1000, exclude_seen=False)} == known
    for scored in everything[:20]:
        assert abs(model.predict_one("u1", scored.item) - scored.score) < 1e-12


def check_forgets_a_user(make: Callable[[], RowModel]) -> None:
    """A forgotten user's row is gone at once, before and after the flush, and starts cold again."""
    model, rows = make(), MemoryRows()
    model.load(rows)
    fold(model, interactions(600))
    rows.flush(model)
    assert b"u/u1" in rows.rows
    model.forget("u1")
    assert model.row("u1") is None
    assert model.top("u1", 5) == model.top("nobody", 5)
    assert rows.flush(model) == [b"u/u1"]
    assert b"u/u1" not in rows.rows
    assert model.describe("u1")["items_seen"] == 0
    model.learn_one("u1", "ï3", 4.0)
    assert model.describe("u1")["last_items"] == ["ï3"]
