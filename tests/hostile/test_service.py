"""A short hostile afternoon for the whole service; `make hostile` spends a long one."""

from __future__ import annotations

import msgspec

from headrace.errors import RequestError
from headrace.models.decisions import Origin
from headrace.models.event_file import Row
from headrace.models.guard import Refusal
from headrace.pipelines.quarantine import quarantined
from headrace.pipelines.topics import Topics
from headrace.serving.limits import Limits
from headrace.serving.server import Listen, Server
from headrace.views import Answer, Question
from tests.hostile.messages import good
from tests.hostile.requests import methods, run_requests
from tests.hostile.service import (
    check_service,
    deploy_all,
    make_topics,
    quarantine_findings,
    send_events,
)
from tests.hostile.targets import TARGETS
from tests.service.conftest import Start
from tests.serving.world import World


async def test_a_service_survives_a_hostile_afternoon(start: Start, topics: Topics) -> None:
    """Bad events and bad requests: each event in quarantine once, each answer a code of the table,
    each key the fold of its log, nothing in the log of errors.
    """
    await make_topics(topics)
    async with start() as (service, client):
        await deploy_all(client)
        bad_at = await send_events(service, 900, "service")
        events = await check_service(service, client, bad_at)
        assert events.findings == []
        assert sum(events.refused.values()) > 700
        requests = await run_requests(service.grpc_address, 800, "service")
        assert requests.findings == []
        assert set(requests.refused) >= {"OK", "invalid_request", "unknown_agent"}
        assert (await check_service(service, client, bad_at)).findings == []
        assert {view.state for view in await client.agents()} == {"running"}
        assert not service.failed.done()


def test_an_event_that_is_quarantined_twice_or_not_is_found() -> None:
    """The check of the quarantine sees a record too many, one too few, and other bytes."""
    target = TARGETS["films"]
    origin = Origin(target.spec.agent, 1, 1, target.spec.source.topic, 0)
    records = [Row(n, n, b"k0", b"[%d]" % n) for n in range(4)]
    refused = [quarantined(Refusal(n, "not_an_object", ""), records[n], origin) for n in (0, 1, 1)]
    held = [msgspec.to_builtins(each) for each in refused]
    bad_at = {("hostile-films", n) for n in (0, 1, 3)}
    found = quarantine_findings(target, held, records, bad_at)
    assert [text.partition(":")[0] for text in found] == [
        "hostile-films@1 is in quarantine 2 times",
        "hostile-films@3 is bad and not in quarantine",
    ]
    held[0]["value"] = "AAAA"
    assert "other bytes" in quarantine_findings(target, held[:1], records, set())[0]


def test_every_method_has_good_messages() -> None:
    """No method of any service is left out of the afternoon."""
    assert all(good(path.rpartition("/")[2]) for path in methods())


class Buggy(World):
    """A backend with a bug, and a code that nobody has written into the table."""

    def predict(self, question: Question) -> Answer:
        if question.k is None:
            raise ZeroDivisionError
        raise RequestError("brand_new", "a code without a row")


async def test_a_bug_and_a_code_of_no_table_are_found() -> None:
    """What leaves as INTERNAL, or with a reason that is not in the table, is a finding."""
    server = Server(Buggy().backend, Listen(port=0), limits=Limits(health_poll_s=0.05))
    address = f"127.0.0.1:{await server.start()}"
    found = (await run_requests(address, 1_200, "bugs")).findings
    await server.stop()
    assert any(finding.startswith("a bug") for finding in found)
    assert any("'brand_new', which is not in the table" in finding for finding in found)
