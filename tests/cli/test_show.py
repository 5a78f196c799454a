"""How results look to people, where a service would take long to bring them about."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from headrace.cli import ask, running, show
from headrace.cli.metric import baseline, measured
from headrace.config import Config
from headrace.views import (
    AgentView,
    DryRun,
    Effect,
    MetricView,
    Position,
    Refusals,
    ShardView,
)

SHARD = ShardView(
    topic="clicks",
    partition=0,
    next_offset=9,
    durable_offset=9,
    end_offset=9,
    keys_hot=2,
    accepted=9,
    quarantined=4,
    learned=2,
    paused=False,
)
METRIC = MetricView(
    name="Accuracy",
    value=0.0,
    baseline=0.0,
    baseline_name="majority class",
    bigger_is_better=True,
    events=0,
)


def _agent(shard: ShardView, note: str = "") -> AgentView:
    return AgentView(
        name="clicks",
        spec_version=1,
        epoch=1,
        digest="",
        state="running",
        spec={},
        shards=(shard,),
        metrics=(METRIC,),
        note=note,
    )


def test_many_partitions_are_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The first three stand for all of them; a note comes last."""
    effect = Effect(
        control_id="c",
        agent="clicks",
        spec_version=1,
        epoch=1,
        positions=tuple(Position("clicks", number, 7) for number in range(60)),
        changed=True,
        note="a lonely category is always 0",
    )
    show.effect(effect, "deployed")
    _, where, note = capsys.readouterr().out.splitlines()
    assert where == "  takes effect at clicks[0]@7, clicks[1]@7, clicks[2]@7 and 57 more"
    assert note == "  note: a lonely category is always 0"


def test_each_reason_of_a_dry_run_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """How often, why, the code once and where; a long reason is cut, a note comes last."""
    at = (Position("clicks", 0, 3),)
    found = DryRun(
        read=20,
        accepted=5,
        refused=(
            Refusals(code="missing", text="`amount` is missing", count=9, examples=at),
            Refusals(code="wrong_type", text="`hour` " + "x" * 500, count=6, examples=at),
        ),
        note="no labels",
    )
    show.dry_run(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "of the last 20 records 5 would be accepted; 15 refused:"
    assert lines[1] == "  9 × `amount` is missing (missing; clicks[0]@3)"
    assert lines[2].endswith("x… (wrong_type; clicks[0]@3)")
    assert lines[3:] == ["note: no labels"]
    assert max(map(len, lines)) < 200


def test_events_without_a_label_have_a_column_where_there_are_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Else nobody is bothered with it. An agent's note stands under the table."""
    show.agents([_agent(SHARD)])
    assert "unlabelled" not in capsys.readouterr().out
    show.agents([_agent(msgspec.structs.replace(SHARD, unlabelled=7), note="waits for a label")])
    head, row, note = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["agent", "state", "learned", "unlabelled", "refused"]
    assert row.split()[:5] == ["clicks", "running", "2", "7", "4"]
    assert note == "clicks: waits for a label"


def test_what_a_bound_has_stopped_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Keys that learn no more, and labels that were dropped, stand under the table."""
    shard = msgspec.structs.replace(SHARD, keys_full=2, labels_lost=1_500)
    state = {"state": {"row_bytes_max": 1_048_576, "pending_max": 1_024}}
    show.agents([msgspec.structs.replace(_agent(shard), spec=state)])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "clicks: 2 keys learn no more: larger than 1,048,576 bytes (state.row_bytes_max)",
        "clicks: 1,500 waiting labels were dropped: 1,024 a key (state.pending_max)",
    ]


def test_a_metric_of_no_event_is_a_dash() -> None:
    """Zero would be a result."""
    assert (measured(METRIC), baseline(METRIC)) == ("Accuracy –", "–")
    assert measured(msgspec.structs.replace(METRIC, events=1)) == "Accuracy 0.0000"


def test_a_refused_event_is_text() -> None:
    """Its path, key and value as they were, whatever bytes they are."""
    record = {
        "position": {"topic": "clicks", "partition": 0, "offset": 3},
        "agent": "clicks",
        "reason": "key_mismatch",
        "path": "$.user",
        "text": "`user` is 'a', but the record's key is 'b'",
        "key": base64.b64encode(b"b").decode(),
        "value": base64.b64encode(b'{"user": "a"\xff\x1b}').decode(),
    }
    text = show.quarantined(record)
    assert "key_mismatch[/] $.user: `user` is 'a'" in text
    assert 'key b, value {"user": "a"�·}' in text
    assert "key (none), value (no value)" in show.quarantined(record | {"key": None, "value": None})


def test_records_that_are_waited_for_come_once_in_order() -> None:
    """The wait for the first one takes none away."""
    records = ask._awaited(iter([{"n": 1}, {"n": 2}]), "decisions of a")
    assert list(records) == [{"n": 1}, {"n": 2}]
    assert list(ask._awaited(iter([]), "decisions of a")) == []


def test_the_state_says_whether_something_was_learned_before(tmp_path: Path) -> None:
    """By its shards; of a run in memory nothing stays."""
    assert "goes with the process" in running._state(Config())
    settings = Config(broker="kafka://b:9092", state_dir=tmp_path)
    assert running._state(settings) == f"{tmp_path} (new)"
    (tmp_path / "shards" / "clicks").mkdir(parents=True)
    assert running._state(settings) == f"{tmp_path} (learned before)"
