"""A campaign: one broker, many short lives of a worker, and what they leave behind."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.pipelines.broker import Broker
from tests.crash.agents import PARTITIONS, Agent, agents, source
from tests.crash.commander import Commander, Verb
from tests.crash.feeder import Feeder
from tests.crash.life import Life, Trouble
from tests.crash.logs import read
from tests.crash.losses import Loss, marked
from tests.crash.nursery import Nursery, Worker, WorkerEndedError
from tests.crash.plan import LifePlan, Plan

AIM_WAIT_S = 15.0
"""How long a worker may live without coming by its aimed point; then it is killed anyway."""
TRIES = 3
"""How often a life may miss its point before the campaign does without it."""
FIRST_EVENTS = 30
"""How many events the first life sees after the deploys."""
KILLED = -9
MISSED = "missed"


@dataclass
class Standing:
    """How far a campaign is, for whoever watches it. `life` counts from 1."""

    life: int = 0
    planned: int = 0
    doing: str = "starting"
    sent: int = 0
    kills: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Left:
    """What a campaign leaves behind: everything that can be compared with the fold."""

    app: str
    state: Path
    agents: tuple[Agent, ...]
    kills: Counter[str]  # by ending; "missed": killed without having come by the aimed point
    repository: Path
    losses: tuple[Loss, ...] = ()

    def shard_path(self, agent: str, epoch: int, topic: str, partition: int) -> Path:
        """Where the shard's store lies; names of campaigns need no escaping."""
        return self.state / "shards" / agent / str(epoch) / f"{topic}@{partition}"


class Campaign:
    """Order of calls: `run`, once. `told` is called with the standing whenever it changes."""

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        directory: Path,
        told: Callable[[Standing], None] = lambda standing: None,
    ) -> None:
        self._plan = plan
        self._broker = broker
        self._directory = directory
        self._told = told
        self._standing = Standing(planned=len(plan.lives))
        self._agents = agents(plan.name, plan.agents)
        self._nursery = Nursery(directory / "worker.log")
        self._address: str | None = None
        self._commander = Commander(lambda: self._address, plan.seed)
        self._due: asyncio.Queue[tuple[Verb, str] | None] = asyncio.Queue()
        self._losses: list[Loss] = []
        self._feeder: Feeder

    async def run(self) -> Left:
        """Make topics, deploy, let workers live and die while events come; in the end let one
        catch up and stop in order.
        """
        plan, topic = self._plan, source(self._plan.name)
        await make_topic(self._broker, topic)
        self._feeder = Feeder(self._broker, topic, seed=plan.seed, events_per_s=plan.events_per_s)
        async with AsyncExitStack() as taken:
            await self._nursery.start()
            taken.push_async_callback(self._nursery.stop)
            await self._feeder.start()
            taken.push_async_callback(self._feeder.stop)
            worker = await self._calm_life("deploying", plan.first_troubles)
            for agent in self._agents:
                await self._commander.command("deploy", agent)
            for _ in range(2):  # what comes when all else is learned comes in chunks of its own
                await self._feeder.more(FIRST_EVENTS)
                await self._catch_up()
            await self._end(worker)
            commands = asyncio.create_task(self._give_commands())
            taken.callback(commands.cancel)
            for number, life in enumerate(plan.lives):
                self._standing.life = number + 1
                if commands.done():  # they end only when none is due any more, or one has failed
                    commands.result()
                await self._until_lived(number, life)
                if life.lost:
                    await self._lose_disk()
            self._due.put_nowait(None)
            worker = await self._calm_life("catching up")
            await commands
            await self._feeder.stop()
            await self._catch_up()
            await self._end(worker)
        return Left(
            plan.name,
            self._directory / "state",
            self._agents,
            self._standing.kills,
            self._repository,
            tuple(self._losses),
        )

    @property
    def _repository(self) -> Path:
        return self._directory / "repository"

    # -- lives -------------------------------------------------------------------------------

    async def _until_lived(self, number: int, life: LifePlan) -> None:
        """Let it live again if it missed its point, with the same asked of it."""
        for _ in range(TRIES):
            for due in (each[1:] for each in self._plan.commands if each[0] == number):
                self._due.put_nowait(due)
            if await self._live(life) != MISSED:
                return

    async def _lose_disk(self) -> None:
        """All but the repository. What was decided by then is not decided again."""
        self._losses.append(await marked(self._broker, self._agents))
        shutil.rmtree(self._directory / "state")

    async def _live(self, life: LifePlan) -> str:
        """The ending that it had, or MISSED."""
        self._tell(life.ending)
        worker = await self._nursery.bear(self._order(life))
        if life.point is not None:
            ending = await self._until_aimed(worker, life)
        else:
            ending = await self._until_told(worker, life)
        self._address = None
        self._standing.kills[ending] += 1
        return ending

    async def _until_aimed(self, worker: Worker, life: LifePlan) -> str:
        self._address = await self._nursery.ready(worker)
        await asyncio.wait({worker.ended}, timeout=AIM_WAIT_S)
        if not worker.ended.done():
            await worker.kill()
        self._check(worker, KILLED)
        return worker.aimed or MISSED

    async def _until_told(self, worker: Worker, life: LifePlan) -> str:
        if life.ending == "sigterm":  # before it is ready it would not stop in order
            self._address = await self._nursery.ready(worker)
        else:
            worker.address.add_done_callback(self._use)
        await asyncio.wait({worker.ended}, timeout=life.after_s)
        if worker.ended.done():
            raise WorkerEndedError(f"a worker ended by itself: {self._nursery.last_words()}")
        if life.ending == "sigterm":
            await self._end(worker)
        else:
            await worker.kill()
            self._check(worker, KILLED)
        return life.ending

    def _use(self, address: asyncio.Future[str]) -> None:
        self._address = address.result()

    async def _calm_life(self, doing: str, troubles: tuple[Trouble, ...] = ()) -> Worker:
        """A worker that nobody kills, when it is ready."""
        self._tell(doing)
        worker = await self._nursery.bear(
            self._order(LifePlan(ending="sigterm", troubles=troubles))
        )
        self._address = await self._nursery.ready(worker)
        return worker

    async def _end(self, worker: Worker) -> None:
        """SIGTERM: it flushes, commits and leaves with 0."""
        self._address = None
        await worker.stop()
        self._check(worker, 0)

    def _check(self, worker: Worker, status: int) -> None:
        if worker.ended.result() != status:
            raise WorkerEndedError(
                f"a worker ended with {worker.ended.result()} instead of {status}: "
                f"{self._nursery.last_words()}"
            )

    def _order(self, life: LifePlan) -> Life:
        plan = self._plan
        return Life(
            app=plan.name,
            bootstrap=self._broker.bootstrap,
            transactions=self._broker.can_transactions,
            state=str(self._directory / "state"),
            snapshots=f"file://{self._repository}",
            session_s=plan.session_s,
            point=life.point,
            passage=life.passage,
            early=life.early,
            turns=life.turns,
            troubles=life.troubles,
            without=plan.without,
        )

    # -- beside them -------------------------------------------------------------------------

    async def _give_commands(self) -> None:
        by_name = {agent.name: agent for agent in self._agents}
        while (due := await self._due.get()) is not None:
            verb, name = due
            await self._commander.command(verb, by_name[name])

    async def _catch_up(self) -> None:
        self._tell("catching up")
        records = await read(self._broker, source(self._plan.name))
        ends = {number: part[-1].offset + 1 for number, part in records.items() if part}
        for agent in self._agents:
            await self._commander.caught_up(agent, ends)

    def _tell(self, doing: str) -> None:
        self._standing.doing = doing
        self._standing.sent = self._feeder.sent
        self._told(self._standing)


async def make_topic(broker: Broker, topic: str) -> None:
    """A source topic of several partitions, as the owner of a cluster makes it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    finally:
        await admin.close()
