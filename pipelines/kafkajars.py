"""The files that Apache Kafka is made of: which, fetched once, and checked at every start.

`kafka-4.1.0.txt` lists each with its published size and SHA-256. A file is fetched from Maven
Central by its exact coordinates: nothing is resolved on the user's machine, so nothing can be
resolved otherwise there. Only files with the listed sums are given to Java.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from headrace.errors import StateError
from headrace.extras import install
from headrace.logs import fields

log = logging.getLogger(__name__)

KAFKA_VERSION = "4.1.0"
FETCH_TRIES = 3
FETCH_TIMEOUT_S = 30
"""How long one answer may take; the connection is then tried again."""
SAY_EVERY_S = 1.0

Progress = Callable[[int, int], None]
"""Is told after each file how many of how many there are."""


class Jar(NamedTuple):
    """One published file."""

    sha256: str
    size: int  # bytes
    group: str
    artifact: str
    version: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this one, byte for byte. Raises OSError."""
        if path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


@cache
def listed() -> tuple[Jar, ...]:
    """What the committed list says."""
    text = importlib.resources.files("headrace.pipelines").joinpath(f"kafka-{KAFKA_VERSION}.txt")
    rows = [line.split() for line in text.read_text("utf-8").splitlines() if line[0] != "#"]
    return tuple(Jar(sha256, int(size), *at.split(":")) for sha256, size, at in rows)


def default_cache() -> Path:
    """Where the files are kept: per user, as every directory of every broker needs the same."""
    try:
        return Path.home() / ".cache" / "headrace" / f"kafka-{KAFKA_VERSION}"
    except RuntimeError as error:
        raise StateError(
            f"no home directory to keep Kafka's files in: set HOME ({error})"
        ) from None


async def fetch(
    kept: Path, progress: Progress | None = None, *, jars: Sequence[Jar] | None = None
) -> list[Path]:
    """All files (or `jars`) in the directory `kept`: those that are missing are fetched first.

    Raises StateError, with what to do, if one cannot be fetched or is not what was published.
    """
    wanted = listed() if jars is None else jars
    missing = [jar for jar in wanted if not (kept / jar.name).exists()]
    if missing:
        told = progress or _logged()
        with _staging(kept) as staging:
            for done, jar in enumerate(missing, len(wanted) - len(missing) + 1):
                await asyncio.to_thread(_fetch_one, jar, Path(staging), kept)
                told(done, len(wanted))
    return await asyncio.to_thread(_checked, kept, wanted)


def _staging(kept: Path) -> TemporaryDirectory[str]:
    """A directory beside the kept files: an interrupted fetch leaves nothing among them."""
    try:
        kept.mkdir(parents=True, exist_ok=True)
        return TemporaryDirectory(prefix=".fetching-", dir=kept)
    except OSError as error:
        raise StateError(f"Kafka's files cannot be kept in {kept}: {error}") from None


def _fetch_one(jar: Jar, staging: Path, kept: Path) -> None:
    try:
        from jgo.maven import MavenContext
    except ImportError:
        raise missing_extra("jgo") from None
    for tries_left in reversed(range(FETCH_TRIES)):
        # A context of its own for each try: what an earlier one left half-way counts as cached.
        context = MavenContext(
            repo_cache=staging / str(tries_left), local_repos=[], timeout=FETCH_TIMEOUT_S
        )
        project = context.project(jar.group, jar.artifact)
        try:
            path = project.at_version(jar.version).artifact().resolve()
            if jar.is_at(path):
                path.replace(kept / jar.name)
                return
            reason = f"what came is not the published file of SHA-256 {jar.sha256}"
        except (OSError, RuntimeError) as error:  # what requests and jgo raise
            reason = str(error)
    raise StateError(
        f"{jar.name} of Kafka {KAFKA_VERSION} cannot be fetched from Maven Central: {reason}. "
        f"Start again with a network, or copy {kept} from a machine that has it"
    )


def _checked(kept: Path, wanted: Sequence[Jar]) -> list[Path]:
    paths = []
    for jar in wanted:
        path = kept / jar.name
        if not jar.is_at(path):
            raise StateError(
                f"{path} is not the published file of SHA-256 {jar.sha256}: delete it and start "
                "again, then it is fetched anew"
            )
        paths.append(path)
    return paths


def missing_extra(package: str) -> StateError:
    """`package` is not installed: what to do."""
    return StateError(
        f"--broker local: needs the package {package}: in a checkout, `{install('kafka')}` "
        "(no Java and no Maven), or use memory: or kafka://"
    )


def _logged() -> Progress:
    """Says in the log how far it is, not more often than once a second, and the end."""
    clock = asyncio.get_running_loop().time
    said = clock() - SAY_EVERY_S

    def told(done: int, total: int) -> None:
        nonlocal said
        if clock() - said >= SAY_EVERY_S or done == total:
            said = clock()
            log.info("kafka.fetching", extra=fields(files=done, of=total))

    return told
