"""The MovieLens data: fetched once, checked, in the order of time."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import msgspec
import pytest

from headrace.demo import movielens
from headrace.demo.movielens import MovieLens, Rating, load
from headrace.errors import StateError
from headrace.models.decisions import Origin
from headrace.models.learner import Learner
from headrace.models.memory_rows import MemoryRows as DictRows
from headrace.models.spec import load_spec
from headrace.views import MetricView

AGENTS = Path(__file__).parents[2] / "pipelines" / "agents"
CACHE = Path(__file__).parents[2] / ".cache" / "movielens"


class Sent(msgspec.Struct):
    offset: int
    timestamp: int
    key: bytes
    value: bytes


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that may look nowhere."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


def _wheel(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"recbole/dataset_example/ml-100k/ml-100k.{name}", text)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def data() -> MovieLens:
    try:
        return load(CACHE)
    except StateError as error:
        pytest.skip(f"without a package index there are no ratings to test: {error}")


def test_the_ratings_are_all_there_in_the_order_of_time(data: MovieLens) -> None:
    """100,000 ratings of 943 users and 1,682 films, none before the one ahead of it."""
    events = data.events
    assert len(events) == 100_000
    assert len({event.user for event in events}) == 943
    assert {event.item for event in events} == set(data.titles)
    assert len(data.titles) == 1682
    times = [event.timestamp for event in events]
    assert times == sorted(times)
    assert events[0] == Rating("259", "255", 4.0, 874724710)
    assert data.titles["1"] == "Toy Story (1995)"
    assert {event.rating for event in events} == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_ratings_of_one_second_stay_in_the_order_of_the_file() -> None:
    """Events are sorted by time alone, and stably."""
    inter = "u\ti\tr\tt\n7\t1\t3\t20\n9\t2\t4\t10\n1\t3\t5\t20\n"
    item = "i\tt\ty\tc\n1\tUp\t2009\tA\n2\tPi\t\tB\n"
    made = movielens._parsed(_wheel(inter=inter, item=item))
    assert [(event.user, event.timestamp) for event in made.events] == [
        ("9", 10),
        ("7", 20),
        ("1", 20),
    ]
    assert made.titles == {"1": "Up (2009)", "2": "Pi"}


def test_an_event_is_json_keyed_by_its_user() -> None:
    """Key and value are what the shipped specs read."""
    event = Rating("196", "242", 3.0, 881250949)
    assert event.key == b"196"
    assert event.value == b'{"user":"196","item":"242","rating":3.0,"at":881250949}'


@pytest.mark.usefixtures("unreachable")
def test_without_a_package_index_the_error_says_what_to_do(tmp_path: Path) -> None:
    """No traceback of pip's, but what is missing and where it can be put by hand."""
    with pytest.raises(StateError, match=r"No matching distribution.*put recbole-1.2.1.* yourself"):
        load(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unreachable")
def test_an_altered_wheel_in_the_cache_is_not_read(tmp_path: Path) -> None:
    """A file of the right name with other bytes is fetched again, not trusted."""
    (tmp_path / "recbole-1.2.1-py3-none-any.whl").write_bytes(_wheel(inter="a\n", item="a\n"))
    with pytest.raises(StateError, match="could not be fetched"):
        load(tmp_path)


def test_a_python_without_pip_is_told_how_to_get_it() -> None:
    """The venv of another tool may lack pip."""
    assert "ensurepip" in movielens._reason("/usr/bin/python: No module named pip")


def test_a_file_that_unpacks_to_more_than_its_bound_is_not_read() -> None:
    """Of each file at most 4 MiB are unpacked."""
    with pytest.raises(AssertionError):
        movielens._parsed(_wheel(inter="x" * (4 * 2**20 + 1), item=""))


def _metrics_after(agent: str, events: list[Rating]) -> dict[str, MetricView]:
    """The metrics of a shipped agent that has learned these events, its rows flushed on the way."""
    spec = load_spec((AGENTS / f"{agent}.yaml").read_bytes())
    rows = DictRows()
    learner = Learner(spec, Origin(agent, 1, 0, spec.source.topic, 0), rows)
    sent = [
        Sent(n, event.timestamp * 1000, event.key, event.value) for n, event in enumerate(events)
    ]
    for start in range(0, len(sent), 1000):
        assert learner.step(sent[start : start + 1000]).refusals == []
        rows.flush(learner)
    return {metric.name: metric for metric in learner.metrics()}


def test_the_shipped_agents_beat_their_baselines(data: MovieLens) -> None:
    """On the first fifth of the ratings already; `make quality` holds the whole to its figures."""
    events = data.events[:20_000]
    ratings = _metrics_after("ratings", events)
    assert ratings["MAE"].value < 0.77
    assert ratings["RMSE"].value < 0.98
    assert ratings["MAE"].baseline is not None
    assert ratings["MAE"].value < 0.9 * ratings["MAE"].baseline
    (hits,) = _metrics_after("top10", events).values()
    assert hits.value > 0.16
    assert hits.baseline is not None
    assert hits.value > 1.8 * hits.baseline
