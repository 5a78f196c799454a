"""Every bound of the serving room, by name."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.models.wants import MAX_KEY


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one client, or all clients together, may ask of a worker."""

    in_flight: int = 256  # unary calls at a time, of all clients
    streams: int = 64  # streaming calls at a time, of all clients
    # HTTP/2 streams of one connection. gRPC counts those too that it has not cleared away yet, and
    # refuses more (which is what cures rapid reset). A client that keeps its whole allowance busy
    # is then refused 9 to 27 calls in 100 with UNAVAILABLE (measured, 200 callers, 64 allowed; none
    # at 1024). So this is well above `in_flight`, which sheds with words and a time to retry.
    streams_per_connection: int = 1024
    message_s: float = 10.0  # a call that was begun must bring its message within this
    message_bytes: int = 4 << 20  # one request or one answer
    spec_bytes: int = 64 << 10
    event_bytes: int = 1 << 20
    batch_rows: int = 1000
    key_chars: int = MAX_KEY  # as of an event's key: what can be learned can be asked
    control_calls: int = 16  # deploys, validations and commands at a time: each takes a while
    features: int = 1000  # in one question
    items: int = 10_000  # candidates, or exclusions, in one question
    recommended: int = 1000  # k of one question
    rollback_items: int = 10_000  # keys, excluded keys, or excluded decisions, of one rollback
    rollback_bytes: int = 512 << 10  # of what one rollback asks: it becomes a record in Kafka
    page_bytes: int = 256 << 10  # of snapshots, or of rollbacks, in one answer; one at least
    piece_bytes: int = 256 << 10  # of an archive, in one message of an export
    retry_s: float = 0.1  # when a call that was shed may come again
    stall_s: float = 10.0  # how long a stream waits for a client that does not read
    slice_s: float = 0.001  # longest stretch of a batch between two yields to the event loop
    health_poll_s: float = 0.2  # how soon a health watch sees a change
    scrape_s: float = 5.0  # longest wait of /metrics for the event loop
    idle_s: float = 300.0  # a connection without calls is closed after this
    handshake_s: float = 10.0
    keepalive_s: float = 60.0  # a silent connection is pinged after this
