"""docs/client.md: its program runs as it stands, and it names every call."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from headrace.serving.client import AsyncClient, Client
from tests.service.conftest import Start

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
ADDRESS = "127.0.0.1:50051"


async def test_the_page_is_a_program_that_runs(start: Start) -> None:
    """All its blocks, one after the other, in one process, against a fresh service."""
    program = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    async with start() as running:
        mine = program.replace(ADDRESS, running.service.grpc_address)
        assert ADDRESS not in mine
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", mine),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    lines = said.decode().splitlines()
    assert process.returncode == 0, said.decode()
    assert lines[0].startswith("card-fraud 1 (Position(topic='transactions', partition=0, offset=")
    assert lines[1] == "transactions 0 0"
    assert lines[-1] == "100 True"
    assert any(line.startswith("wrong_type") for line in lines)
    assert not any("is not there" in line for line in lines)


def test_every_call_is_named_and_is_there() -> None:
    """Of both clients, which have the same ones; and no name on the page is made up."""
    table = PAGE.partition("## All calls")[2]
    named = set(re.findall(r"`(\w+)`", table)) - {"with"}
    for client in (Client, AsyncClient):
        assert {name for name in dir(client) if not name.startswith("_")} == named
    used = set(re.findall(r"\bclient\.(\w+)\(", PAGE))
    assert used <= named
