"""A whole start over a damaged repository: what is refused, said and counted, and what is used."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path

from headrace.pipelines import fetcher
from tests.faults.judging import continued, differences_from_fold
from tests.faults.life import BASE, LATER, Life, run
from tests.faults.operations import past
from tests.state.kept import Kinds
from tests.state.mutations import Files, damage, what


class Mutated:
    """Lives that begin on an empty disk. Order of calls: `mutate` as often as you like.

    `where`: a directory for them.
    """

    def __init__(self, where: Path) -> None:
        self._past = where / "lived"
        self._root = where / "mutated"
        self._past.mkdir()
        run(_lived(self._past))
        shutil.rmtree(self._past / "state")

    def mutate(self, count: int, seed: int) -> Kinds:
        """Damage a file that the newest snapshot needs, `count` times: it is refused with a line in
        the log that names it, and counted; so is the older one if it needs that file, too. The
        newest sound one is used, or the log from the deploy on, and in the end all is learned.

        AssertionError if not.
        """
        chance = random.Random(seed)
        tried = Kinds()
        for _ in range(count):
            shutil.rmtree(self._root, ignore_errors=True)
            shutil.copytree(self._past, self._root)
            files = Files(self._root / "repository")
            needs = {name: _needed(self._root, files, name) for name in (LATER, BASE)}
            manifest = needs[LATER][0]
            path = manifest if chance.random() < 0.5 else files.some(needs[LATER], chance)
            kind = damage(path, files, chance)
            hurt = [name for name, all_ in needs.items() if not files.damaged().isdisjoint(all_)]
            stands = {0: 40, 1: 20, 2: 0}[len(hurt)]
            told = _Told()
            log = logging.getLogger(fetcher.__name__)
            log.addHandler(told)
            try:
                run(_started(self._root, hurt, stands, told))
            finally:
                log.removeHandler(told)
            tried[kind, what(path)] += 1
        return tried


async def _lived(root: Path) -> None:
    await past(Life(root))


async def _started(root: Path, hurt: list[str], stands: int, told: _Told) -> None:
    life = Life(root)
    await life.start()
    assert life.shard.next_offset == stands, f"it stands at {life.shard.next_offset}"
    assert told.refused == hurt
    assert life.vault.refusals == len(hurt)
    await continued(life)
    assert differences_from_fold(root) == []


class _Told(logging.Handler):
    """The snapshots that the log says are refused."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.refused: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "snapshot.refused":
            self.refused.append(vars(record)["fields"]["snapshot"])


def _needed(root: Path, files: Files, snapshot_id: str) -> list[Path]:
    (manifest,) = (root / "repository" / "manifests" / snapshot_id).iterdir()
    return [manifest, *files.named_by(manifest)]
