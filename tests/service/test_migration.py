"""Another spec for an agent that runs, over gRPC, on a real broker."""

from __future__ import annotations

import asyncio

import pytest

from headrace.errors import ConflictError, NotFoundError, Violation
from headrace.models.migration import keep_problems
from headrace.models.spec import Spec, load_spec
from headrace.pipelines import control, migrating, rollback_commands
from headrace.pipelines.bases import bases
from headrace.pipelines.feeds import Outgoing
from headrace.pipelines.vault import Vault, undo_id
from headrace.serving.client import AsyncClient
from headrace.views import Effect, How, Migration, RollbackRequest, SnapshotView
from tests.service.conftest import Running, Start
from tests.service.test_restore import published
from tests.service.test_rollback import digests, learner_over, taught
from tests.service.test_service import KEYS, events, spec
from tests.service.watched import decisions

SCALED = "preprocessing.StandardScaler"


def changed(text: bytes, before: str, after: str) -> bytes:
    assert before in text.decode()
    return text.decode().replace(before, after).encode()


def model(rate: float) -> str:
    return f'{{"linear_model.LinearRegression":{{"optimizer":{{"optim.SGD":{{"lr":{rate}}}}}}}}}'


def rated(agent: str, rate: float) -> bytes:
    """A spec with a rate of learning, which may change on live models."""
    return changed(spec(agent, f"t-{agent}"), '"linear_model.LinearRegression"', model(rate))


async def versions(client: AsyncClient, agent: str) -> list[tuple[int, int, int]]:
    """Offset, spec version and epoch of each decision."""
    return [
        (d["position"]["offset"], d["spec_version"], d["epoch"])
        for d in await decisions(client, agent)
    ]


async def more(running: Running, agent: str, sent: list[Outgoing], upto: int) -> None:
    """Send on until there are `upto` events, and wait until the shard stands behind them."""
    new = events(sent[0].topic, range(len(sent), upto))
    sent.extend(new)
    await running.service.events.send_all(new)
    async with asyncio.timeout(20):
        while True:
            if (await running.client.agent(agent)).shards[0].next_offset >= upto:
                return
            await asyncio.sleep(0.02)


async def epoch(client: AsyncClient, agent: str, wanted: int) -> None:
    """Wait until the agent answers from that epoch."""
    async with asyncio.timeout(20):
        while True:
            if (await client.key(agent, KEYS[0])).standing.epoch >= wanted:
                return
            await asyncio.sleep(0.02)


def told(done: Effect) -> tuple[int, int, list[int]]:
    return done.spec_version, done.epoch, [place.offset for place in done.positions]


async def test_a_reset_begins_cold_under_the_new_spec(start: Start) -> None:
    """Answers and decisions name the version on each side; the state is that of the events since,
    a restart finds it, and the same deploy again changes nothing.
    """
    text = spec("colder", "t-colder")
    new = changed(text, SCALED, "preprocessing.MinMaxScaler")
    async with start() as running:
        client = running.client
        sent = await taught(running, "colder", text, 30)
        done = await client.deploy(new, Migration(how="reset"))
        assert told(done) == (2, 2, [30])
        answer = await client.predict("colder", key=KEYS[0], features={"power": 1.0})
        standing = answer.standing
        assert (standing.spec_version, standing.epoch, standing.cold) == (2, 2, True)
        assert not (await client.deploy(new, Migration(how="reset"))).changed
        await more(running, "colder", sent, 50)
        made = await versions(client, "colder")
        assert made == [(n, 1 if n < 30 else 2, 1 if n < 30 else 2) for n in range(50)]
    async with start() as running:
        only = learner_over("colder", new, [*enumerate(sent)][30:])
        for key in KEYS:
            assert (await running.client.key("colder", key)).model == only.describe(key, 50).model


async def test_keep_lets_models_learn_on_with_the_new_parameters(start: Start) -> None:
    """Each key's model goes on, at the new rate, and so it is after a restart."""
    old, new = rated("keeper", 0.01), rated("keeper", 0.02)
    async with start() as running:
        client = running.client
        sent = await taught(running, "keeper", old, 30)
        done = await client.deploy(new, Migration(how="keep"))
        assert told(done) == (2, 2, [30])
        view = await client.key("keeper", KEYS[0])
        assert (view.standing.spec_version, view.standing.updates) == (2, 10)
        assert "0.02" in str(view.model)
        await more(running, "keeper", sent, 60)
        learned_on = await digests(client, "keeper")
    async with start() as running:
        assert await digests(running.client, "keeper") == learned_on
        assert (await running.client.agent("keeper")).digest == load_spec(new).digest


async def test_each_version_of_a_spec_can_be_seen_until_the_agent_is_deleted(start: Start) -> None:
    """As it was deployed, also after a restart; a new life knows its own versions only."""
    old, new = rated("storied", 0.01), rated("storied", 0.02)
    async with start() as running:
        await running.client.deploy(old)
        await running.client.deploy(new, Migration(how="keep"))
    async with start() as running:
        client = running.client
        assert await client.spec("storied", 1) == load_spec(old).to_dict()
        assert await client.spec("storied", 2) == (await client.agent("storied")).spec
        with pytest.raises(NotFoundError, match="no spec version 3: since its deploy it had 1 to"):
            await client.spec("storied", 3)
        await client.delete("storied")
        await client.deploy(old)
        assert (await client.agent("storied")).first_spec_version == 3
        with pytest.raises(NotFoundError, match="it had only 3") as unknown:
            await client.spec("storied", 1)
        assert unknown.value.code == "unknown_spec"


async def test_without_a_migration_every_choice_is_told(start: Start) -> None:
    """Nothing changes; the refusal says what each would do, and all that speaks against keep."""
    text = spec("chooser", "t-chooser")
    new = changed(changed(text, SCALED, "preprocessing.MinMaxScaler"), "$.temp", "$.power")
    async with start() as running:
        client = running.client
        await taught(running, "chooser", text, 9)
        with pytest.raises(ConflictError) as refused:
            await client.deploy(new)
        assert refused.value.code == "agent_exists"
        for choice in ("keep: cannot be", "reset: begins cold", "refold: ", "from=SNAPSHOT: "):
            assert choice in str(refused.value)
        assert [v.path for v in refused.value.violations] == ["$.label.path", "$.model[0]"]
        with pytest.raises(ConflictError) as unkept:
            await client.deploy(new, Migration(how="keep"))
        assert unkept.value.code == "spec_mismatch"
        assert unkept.value.violations == refused.value.violations
        assert (await client.agent("chooser")).spec_version == 1


async def test_what_an_agent_reads_and_writes_stays(start: Start) -> None:
    """Another source or another topic of decisions is refused, whatever the migration."""
    text = spec("fixed", "t-fixed")
    elsewhere = spec("fixed", "t-fixed-2", emit={"topic": "d-fixed-2"})
    async with start() as running:
        await taught(running, "fixed", text, 9)
        await running.client.deploy(spec("other", "t-fixed-2"))  # so that the topic is there
        for how in (None, Migration(how="reset"), Migration(how="refold")):
            with pytest.raises(ConflictError, match="no migration changes") as refused:
                await running.client.deploy(elsewhere, how)
            paths = [violation.path for violation in refused.value.violations]
            assert paths == ["$.source.topic", "$.emit.topic"]


async def test_from_goes_on_with_the_models_of_a_snapshot(start: Start) -> None:
    """Of an older version, too: so a migration is taken back with what it replaced."""
    old = rated("taker", 0.01)
    new = changed(old, SCALED, "preprocessing.MinMaxScaler")
    async with start() as running:
        client = running.client
        sent = await taught(running, "taker", old, 30)
        before = await digests(client, "taker")
        reset = await client.deploy(new, Migration(how="reset"))
        await more(running, "taker", sent, 45)
        undo = undo_id("taker", reset.control_id)
        await published(client, undo)
        with pytest.raises(ConflictError, match="cannot go on under this spec"):
            await client.deploy(rated("taker", 0.5).replace(b"temp", b"power"),
                                Migration(how="from", snapshot_id=undo))  # fmt: skip
        with pytest.raises(NotFoundError, match="no snapshot is called"):
            await client.deploy(old, Migration(how="from", snapshot_id="taker.none"))
        with pytest.raises(NotFoundError, match="no agent is called"):
            await client.deploy(rated("stranger", 0.01), Migration(how="from", snapshot_id=undo))
        with pytest.raises(ConflictError, match="spec version 1"):
            await client.rollback(RollbackRequest(agent="taker", snapshot_id=undo))
        done = await client.deploy(old, Migration(how="from", snapshot_id=undo))
        assert told(done) == (3, 3, [45])
        assert await digests(client, "taker") == before


async def test_a_snapshot_is_taken_under_the_spec_that_runs_already(start: Start) -> None:
    """As where a former version had the same one: a rollback to that one says to do so. Asked for
    again it changes nothing; nor does a reset, which says what would.
    """
    text = rated("as-is", 0.01)
    async with start() as running:
        client = running.client
        sent = await taught(running, "as-is", text, 30)
        before = await digests(client, "as-is")
        await client.create_snapshot("as-is", "first")
        await client.deploy(rated("as-is", 0.5), Migration(how="reset"))
        await client.deploy(text, Migration(how="reset"))
        await more(running, "as-is", sent, 45)
        with pytest.raises(ConflictError, match="from=as-is"):
            await client.rollback(RollbackRequest(agent="as-is", snapshot_id="as-is.first"))
        for changed_anything in (True, False):
            done = await client.deploy(text, Migration(how="from", snapshot_id="as-is.first"))
            assert (done.changed, done.spec_version, done.epoch) == (changed_anything, 4, 4)
            assert await digests(client, "as-is") == before
        refused = await client.deploy(text, Migration(how="reset"))
        assert (refused.changed, refused.epoch) == (False, 4)
        assert "it runs this spec already; to begin anew" in refused.note
        await more(running, "as-is", sent, 60)
        assert (await client.agent("as-is")).shards[0].next_offset == 60


async def test_a_rollback_that_a_migration_overtakes_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was checked under the spec before: no row of that comes under the new one. Asked for
    again, it is told what goes on.
    """
    async with start() as running:
        client = running.client
        await taught(running, "overtaken", rated("overtaken", 0.01), 30)
        await client.create_snapshot("overtaken", "good")

        async def slowly(vault: Vault, snapshot: SnapshotView) -> tuple[control.Base, ...]:
            found = await bases(vault, snapshot)
            await client.deploy(rated("overtaken", 0.5), Migration(how="reset"))
            return found

        monkeypatch.setattr(rollback_commands, "bases", slowly)
        to_good = RollbackRequest(agent="overtaken", snapshot_id="overtaken.good")
        with pytest.raises(ConflictError, match="another spec meanwhile: ask again") as refused:
            await client.rollback(to_good)
        assert refused.value.code == "spec_mismatch"
        view = await client.agent("overtaken")
        assert (view.epoch, view.spec_version) == (2, 2)
        with pytest.raises(ConflictError, match="with --migration from=overtaken"):
            await client.rollback(to_good)


@pytest.mark.parametrize("how", ["keep", "reset", "refold"])
async def test_the_same_migration_twice_at_once_is_done_once(start: Start, how: How) -> None:
    """As when a call has timed out and is made again while its command is on its way: the second
    one is told that there is nothing to change, as after an identical deploy.
    """
    agent = f"twice-{how}"
    async with start() as running:
        client = running.client
        await taught(running, agent, rated(agent, 0.01), 30)
        new, asked = rated(agent, 0.5), Migration(how=how)
        both = await asyncio.gather(client.deploy(new, asked), client.deploy(new, asked))
        assert sorted(done.changed for done in both) == [False, True]
        unchanged = next(done for done in both if not done.changed)
        assert unchanged.note.startswith("nothing to change: it runs this spec already")
        assert ("to begin anew" in unchanged.note) == (how != "keep")
        assert (await client.agent(agent)).spec_version == 2


@pytest.mark.parametrize("rate", [0.5, 0.9])
async def test_a_migration_that_another_overtakes_counts_for_the_spec_it_was_checked_with(
    start: Start, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    """After the very same one there is nothing to change; after another one it is refused: whether
    what was learned goes with it was asked of the spec before.
    """
    agent = f"passed-{rate}".replace(".", "-")
    async with start() as running:
        client = running.client
        await taught(running, agent, rated(agent, 0.01), 30)
        await client.create_snapshot(agent, "good")

        async def slowly(vault: Vault, snapshot: SnapshotView) -> tuple[control.Base, ...]:
            monkeypatch.setattr(migrating, "bases", bases)
            await client.deploy(rated(agent, rate), Migration(how="reset"))
            return await bases(vault, snapshot)

        monkeypatch.setattr(migrating, "bases", slowly)
        taken = client.deploy(rated(agent, 0.5), Migration(how="from", snapshot_id=f"{agent}.good"))
        if rate == 0.5:
            done = await taken
            assert not done.changed
            assert done.note == "nothing to change: it runs this spec already"
        else:
            with pytest.raises(ConflictError, match="another spec meanwhile: ask again"):
                await taken
        assert (await client.agent(agent)).spec_version == 2


async def test_what_is_kept_was_asked_of_the_spec_that_is_left(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another migration comes while that is looked at: of its spec nobody has asked."""
    new = rated("unkept", 0.5)
    other = changed(new, SCALED, "preprocessing.MinMaxScaler")
    async with start() as running:
        client, loop = running.client, asyncio.get_running_loop()
        await taught(running, "unkept", rated("unkept", 0.01), 30)

        def slowly(present: Spec, wanted: Spec) -> list[Violation]:
            monkeypatch.setattr(migrating, "keep_problems", keep_problems)
            overtaking = client.deploy(other, Migration(how="reset"))
            asyncio.run_coroutine_threadsafe(overtaking, loop).result(20)
            return keep_problems(present, wanted)

        monkeypatch.setattr(migrating, "keep_problems", slowly)
        with pytest.raises(ConflictError, match="another spec meanwhile: ask again"):
            await client.deploy(new, Migration(how="keep"))
        assert (await client.agent("unkept")).spec_version == 2


async def test_a_refold_learns_the_log_again_and_swaps_in(start: Start) -> None:
    """Nothing is decided again; afterwards the models are those of the whole log."""
    text = spec("refolded", "t-refolded")
    new = changed(text, SCALED, "preprocessing.MinMaxScaler")
    async with start() as running:
        client = running.client
        sent = await taught(running, "refolded", text, 60)
        done = await client.deploy(new, Migration(how="refold"))
        assert told(done)[:2] == (2, 2)
        await epoch(client, "refolded", 2)
        await more(running, "refolded", sent, 75)
        whole = learner_over("refolded", new, enumerate(sent))
        for key in KEYS:
            assert (await client.key("refolded", key)).model == whole.describe(key, 75).model
        made = await versions(client, "refolded")
        assert made == [(n, 1 if n < 60 else 2, 1 if n < 60 else 2) for n in range(75)]


async def test_a_dry_run_says_what_would_change(start: Start) -> None:
    """Both versions, all that differs, whether it could be kept, and how many events it concerns;
    nothing is deployed.
    """
    old, new = rated("planned", 0.01), rated("planned", 0.02)
    async with start() as running:
        client = running.client
        await taught(running, "planned", old, 30)
        assert (await client.dry_run(old)).migration is None
        found = (await client.dry_run(new, Migration(how="refold"))).migration
        assert found is not None
        assert (found.spec_version, found.new_spec_version, found.events) == (1, 2, 30)
        assert [(c.text, c.path.endswith("lr")) for c in found.changes] == [
            ("is 0.02, and was 0.01", True)
        ]
        assert found.keep_problems == ()
        assert (await client.agent("planned")).spec_version == 1
