"""Repositories to test: on a disk, in memory and on an S3 server; what is kept there, and taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.clock import new_id
from headrace.state.checkpoints import Checkpoints
from headrace.state.repositories import open_repository
from headrace.state.repository import ShelfRepository
from headrace.state.store import ShardStore
from tests.state.cuts import stored
from tests.state.s3_server import S3Server
from tests.state.snapshot import CONTENT


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for all tests, ended by its own process id."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "log")
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place in that server, which the environment tells obstore to use."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    return f"s3://bucket/{new_id()}"


@pytest.fixture(params=["file", "memory", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> ShelfRepository:
    """An empty repository of each kind."""
    url = {"file": f"file://{tmp_path}/kept", "memory": "memory://"}.get(request.param)
    opened = open_repository(url or request.getfixturevalue("bucket"))
    assert isinstance(opened, ShelfRepository)
    return opened


@pytest.fixture
def checkpoint(tmp_path: Path) -> list[Path]:
    """The files of a checkpoint."""
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    for name, content in CONTENT.items():
        (directory / name).write_bytes(content)
    return sorted(directory.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ShardStore]:
    """A store that stands where the cuts of `tests.state.cuts` say."""
    opened = stored(tmp_path / "shard")
    yield opened
    opened.close()


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """A place for checkpoints, with nothing in it."""
    return Checkpoints(tmp_path / "checkpoints")
