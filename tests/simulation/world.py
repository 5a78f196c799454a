"""One world, from its first record to the verdict."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.state.options import StoreOptions
from headrace.views import Partition
from tests.simulation.asked import Asked
from tests.simulation.broker import SimBroker
from tests.simulation.controls import CONTROL
from tests.simulation.loop import Killed, Process, Stuck, VirtualLoop
from tests.simulation.parts import Parts
from tests.simulation.past import Past
from tests.simulation.plan import TOPIC, Fault, Plan, draw
from tests.simulation.verdict import differences
from tests.simulation.violation import Violation
from tests.simulation.worker import SimWorker, WatchedCatchUp, WatchedShards

WORLD_S = 900.0
"""Virtual seconds until a world must have come to its end."""

LIFE_S = 12.0
"""Virtual seconds after which a worker that is to crash does so, whatever its steps."""

LOOK_S = 0.2
"""Virtual seconds between two looks at whether the last worker has caught up."""

STORES = StoreOptions()
Change = Callable[[Parts], Parts]
Shape = Callable[[Plan], Plan]


@dataclass
class Outcome:
    """What became of a world. No `problems`: every law held."""

    seed: int
    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    digest: str = ""


def run(
    seed: int, change: Change = lambda parts: parts, shape: Shape = lambda plan: plan
) -> Outcome:
    """Live through the world of a seed. `change` may take a protection away, and `shape` make
    that happen against which it stands.
    """
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    loop = VirtualLoop(random.Random(seed + 1))
    world = _World(shape(draw(seed)), directory / "state", change)
    outcome = Outcome(seed)
    loop.set_exception_handler(lambda _, context: world.note(context))
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.wait_for(world.live(), WORLD_S))
        outcome.problems = [
            *differences(world.plan, world.broker, directory / "state"),
            *world.contradictions,
            *(f"nobody heard of {error!r}" for error in world.unheard),
        ]
    except TimeoutError:
        outcome.problems = [f"after {WORLD_S:g} virtual seconds it has not caught up"]
    except (Violation, Stuck) as broken:
        outcome.problems = [str(broken)]
    finally:
        world.end()
        asyncio.set_event_loop(None)
        loop.close()
        shutil.rmtree(directory)
    outcome.counts = dict(world.broker.counts) | {
        "acknowledgements, writes … 20 times as slow": loop.long_waits,
        "virtual seconds": int(loop.time()),
    }
    outcome.digest = world.broker.digest()
    return outcome


class _World:
    def __init__(self, plan: Plan, state_dir: Path, change: Change) -> None:
        self.plan = plan
        self.broker = SimBroker()
        self.unheard: list[BaseException] = []  # failures of tasks that nobody awaits
        self.contradictions: list[str] = []  # of states of the past
        self._state_dir = state_dir
        self._change = change
        self._chance = random.Random(plan.seed + 2)
        self._processes: list[Process] = []
        self.broker.counts["several agents"] = len(plan.agents) > 1
        self.broker.counts["several partitions"] = len(plan.records) > 1
        self._asked = Asked(plan, self.broker, self._chance)
        self._worker: SimWorker | None = None
        self._bounds = plan.bounds

    async def live(self) -> None:
        """All faults, then one worker that lives until it has caught up and stops cleanly."""
        self.broker.partitions[TOPIC] = len(self.plan.records)
        outside = asyncio.gather(
            self._command(), *(self._produce(n) for n in range(len(self.plan.records)))
        )
        for fault in (*self.plan.faults, None):
            await self._run_worker(fault, outside)

    def note(self, context: dict[str, Any]) -> None:
        """What the loop's exception handler is told."""
        error = context.get("exception")
        if error is not None and not isinstance(error, Killed):
            self.unheard.append(error)

    def end(self) -> None:
        """Give everything back, however it ended."""
        for process in self._processes:
            process.bury()

    # -- the world outside -------------------------------------------------------------------

    async def _produce(self, number: int) -> None:
        log = self.broker.logs[Partition(TOPIC, number)]
        began = asyncio.get_running_loop().time()
        for at, row in self.plan.records[number]:
            await asyncio.sleep(max(began + at - asyncio.get_running_loop().time(), 0.0))
            if self._chance.random() < 0.03:
                log.skip(self._chance.randrange(1, 5))
                self.broker.counts["holes"] += 1
            log.append(row.key, row.value, row.timestamp)

    async def _command(self) -> None:
        began = asyncio.get_running_loop().time()
        for number, (at, kind, agent) in enumerate(self.plan.commands):
            await asyncio.sleep(max(began + at - asyncio.get_running_loop().time(), 0.0))
            record = self._asked.record(kind, agent, f"c{number}")
            if record is None:  # there is nothing to roll back, or nothing to go back to
                continue
            for _ in range(2 if self._chance.random() < 0.1 else 1):  # a retry of the producer
                self.broker.logs[CONTROL].append(None, record)
            self.broker.counts[f"{kind}s"] += 1

    # -- workers -----------------------------------------------------------------------------

    async def _run_worker(self, fault: Fault | None, outside: asyncio.Future[Any]) -> None:
        kind, amount = fault or ("", 0.0)
        dies_at = int(amount) if kind in ("crash", "loss") else None
        process = Process(f"w{len(self._processes)}", dies_at)
        self._processes.append(process)
        work = process.start(self._work(process, fault, outside))
        await asyncio.wait({work, process.dead}, return_when=asyncio.FIRST_COMPLETED)
        if work.done() and not work.cancelled() and process.alive:
            process.bury()
            if (error := work.exception()) is not None:
                raise Violation(f"the worker failed: {error!r}") from error
        else:
            self.broker.counts["crashes"] += 1
            self.broker.counts["crashes while a shard learned apart"] += self._learns_apart()
        if kind == "loss":
            process.bury()
            shutil.rmtree(self._state_dir, ignore_errors=True)
            self.broker.counts["disks lost"] += 1

    async def _work(
        self, process: Process, fault: Fault | None, outside: asyncio.Future[Any]
    ) -> None:
        parts = Parts(
            chance=self._chance,
            shards=WatchedShards,
            catch_up=WatchedCatchUp,
            bounds=self._bounds,
        )
        parts = self._change(parts)
        worker = self._worker = SimWorker(self.broker, self._state_dir, process, STORES, parts)
        await worker.start()
        retire = asyncio.ensure_future(self._retire(worker))
        if fault is None:
            while not (worker.failed.done() or (outside.done() and self._caught_up(worker))):
                await asyncio.wait({worker.failed}, timeout=LOOK_S)
        elif fault[0] in ("crash", "loss"):
            await asyncio.wait({worker.failed}, timeout=LIFE_S)
            process.dies_at = process.steps + 1
        else:
            await asyncio.wait({worker.failed}, timeout=fault[1])
        if worker.failed.done():
            worker.failed.result()
        if fault is not None and fault[0] == "rebalance":
            self.broker.counts["rebalances"] += 1
            await worker.streams.rebalance()  # type: ignore[attr-defined]
            await asyncio.wait({worker.failed}, timeout=fault[1])
        retire.cancel()
        if fault is None and not worker.holdings.broken:
            past = Past(self.plan, self.broker, worker)
            self.contradictions = await past.contradictions()
        if fault is not None and fault[0] == "crash in a stop":
            process.dies_at = process.steps + int(fault[1])
        await worker.stop()
        if fault is not None:
            self.broker.counts["clean stops"] += 1
        if worker.holdings.broken:
            raise Violation(f"agents gave up: {worker.holdings.broken}")

    def _learns_apart(self) -> bool:
        shards = getattr(self._worker, "shards", None)  # it may have died before it had any
        return shards is not None and any(shard.apart for shard in shards.all())

    async def _retire(self, worker: SimWorker) -> None:
        """Retention: now and then the log loses what every shard has on disk, unless that may be
        lost.
        """
        while not any(kind == "loss" for kind, _ in self.plan.faults):
            await asyncio.sleep(1.0)
            for number in range(len(self.plan.records)):
                partition = Partition(TOPIC, number)
                durable = worker.shards.on_disk(partition)  # type: ignore[attr-defined]
                log = self.broker.logs[partition]
                settled = worker.controls.registry.next_offset == self.broker.logs[CONTROL].end
                if settled and durable > log.begin and self._chance.random() < 0.2:
                    log.begin = durable
                    self.broker.counts["logs cut"] += 1

    def _caught_up(self, worker: SimWorker) -> bool:
        """Every command has taken effect, and every record has been handled, everywhere."""
        if worker.holdings.broken:
            return True
        registry = worker.controls.registry
        if registry.next_offset < self.broker.logs[CONTROL].end:
            return False
        if registry.owing():
            return False
        removed = worker.shards.removed  # type: ignore[attr-defined]
        if not all(removed(deployment) for deployment in registry.deleted()):
            return False
        for deployment in registry.live():
            for number in range(len(self.plan.records)):
                partition = Partition(TOPIC, number)
                shard = worker.shards.find(deployment.agent, partition)
                if shard is None or shard.origin.epoch != deployment.epoch:
                    return False
                if self.broker.logs[partition].rows(shard.next_offset):
                    return False
                if any(
                    deployment.effect(command.control_id, partition) is None
                    for command in deployment.commands
                ):
                    return False
        return True
