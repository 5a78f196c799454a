"""The control log may not be written any more, as when somebody has revoked an ACL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from headrace.errors import RequestError
from headrace.pipelines import control
from headrace.pipelines.broker import Broker
from tests.service.conftest import Start
from tests.service.test_service import spec

END_S = 10.0


async def test_a_worker_ends_that_may_not_write_the_control_log(
    start: Start, broker: Broker
) -> None:
    """A command is refused with the reason; one that another worker has brought in has no effect
    here, and the process ends with that reason, with no shard left waiting.
    """
    async with start() as (service, client):
        await client.deploy(spec("unheard", "t-unheard"))
        worker = service.worker

        async def revoked(*_: Any, **__: Any) -> Any:
            raise TopicAuthorizationFailedError(worker.control_topic)

        worker.controls._log._producer.send_and_wait = revoked
        with pytest.raises(RequestError, match=r"cannot be written: .*TopicAuthorizationFailed"):
            await client.pause("unheard")
        assert not service.failed.done()
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            pause = control.encode(control.Pause(id="theirs", agent="unheard"))
            await producer.send_and_wait(worker.control_topic, pause, partition=0)
        await asyncio.wait({service.failed}, timeout=END_S)
        assert service.failed.done()
        with pytest.raises(TopicAuthorizationFailedError):
            service.failed.result()
        (shard,) = worker.shards.of_agent("unheard")
        async with asyncio.timeout(END_S):
            await shard.close(flush=False)
