"""Every error that Headrace raises on purpose, sorted by who must act.

HeadraceError
├── EventError            the producer: the event goes to quarantine, the stream goes on
├── ViolationsError       who wrote the input: carries every violation at once
│   ├── SpecError         a spec that cannot be deployed
│   └── ConfigError       settings that a process cannot start with
├── RequestError          the caller: the request is wrong, or asks for what is not there
│   ├── NotFoundError     no such agent, key or record
│   ├── ConflictError     the request contradicts what exists
│   ├── OverloadError     the service sheds load; carries when to try again
│   └── UnavailableError  not ready yet, or the broker is away
└── StateError            the operator: the text says what to do
    ├── ForeignStateError state of another log or app
    │   └── OtherBuildError  state that this build does not read as the one that wrote it
    ├── LockedStateError  another worker holds the state directory
    ├── CorruptStateError bytes that do not match their digest
    ├── GoneStateError    a snapshot that was removed, and that a state is made from
    ├── AwayStateError    the repository cannot be reached; it goes on when it can
    ├── BadDiskError      the disk fails under what is written or read for a shard
    └── DiskFullError     no room to write state; it goes on when there is

A bug is an assertion, never one of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class HeadraceError(Exception):
    """The root of all errors that Headrace raises on purpose."""


class EventError(HeadraceError):
    """An event that must not reach a model. The producer has to act.

    `code` is one of the closed set in `headrace.models.guard.REASONS`; `path` names the field.
    """

    def __init__(self, code: str, text: str, *, path: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.path = path


class Violation(msgspec.Struct, frozen=True):
    """One thing wrong with a spec or a request: where (`$.a.b[0]`), what, and what to do."""

    path: str
    text: str
    hint: str = ""


class ViolationsError(HeadraceError):
    """Input with mistakes. `violations` holds all of them, never only the first."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        assert violations
        self.violations = tuple(violations)
        super().__init__(
            "\n".join(
                f"{v.path}: {v.text}" + (f" ({v.hint})" if v.hint else "") for v in violations
            )
        )


class SpecError(ViolationsError):
    """A spec that cannot be deployed."""


class ConfigError(ViolationsError):
    """Settings that a process cannot start with."""


class RequestError(HeadraceError):
    """A request that cannot be answered. `code` is a key of `headrace.serving.status.TABLE`."""

    def __init__(
        self, code: str, text: str, *, violations: Sequence[Violation] = (), **context: str
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.violations = tuple(violations)
        self.context = context


class NotFoundError(RequestError):
    """No such agent, key or record."""


class ConflictError(RequestError):
    """The request contradicts what exists: say, another spec under the same name."""


class OverloadError(RequestError):
    """The service sheds load. `retry_s`: seconds after which another try makes sense."""

    def __init__(self, code: str, text: str, *, retry_s: float) -> None:
        super().__init__(code, text)
        self.retry_s = retry_s


class UnavailableError(RequestError):
    """Not ready yet, or the broker is away."""


class StateError(HeadraceError):
    """State that cannot be used as it is. The operator has to act; the text says how."""


class ForeignStateError(StateError):
    """State that belongs to another log, another app or another build."""


class OtherBuildError(ForeignStateError):
    """State that another build wrote, and that is not shown to go on here as it did there.

    `differences`: what does not come out here as it did there, as far as it was tried.
    """

    def __init__(self, text: str, differences: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.differences = tuple(differences)


class LockedStateError(StateError):
    """Another worker holds the state directory."""


class CorruptStateError(StateError):
    """Bytes that do not match their digest."""


class GoneStateError(StateError):
    """A snapshot that was removed, with its age or on demand; a state cannot be made without it."""


class AwayStateError(StateError):
    """The repository of snapshots cannot be reached; nothing is known to be wrong with what it
    holds. Waiting may cure it.
    """


class BadDiskError(StateError):
    """The disk of this worker does not do what it is told; nothing is wrong with what it was to
    hold.
    """


class DiskFullError(StateError):
    """The disk has no room for state. What is durable stays so; waiting for room may cure it."""


def not_standing(agent: str, control_id: str, undone_by: str) -> ConflictError:
    """That rollback is taken back already, or was done nowhere (`undone_by` is empty then): to take
    it back once more would lose what was learned since.
    """
    text = f"rollback {control_id} could be done in no partition: there is nothing to take back"
    if undone_by:
        text = (
            f"rollback {control_id} was taken back by {undone_by} already; "
            f"`headrace undo {agent} {undone_by}` takes that back"
        )
    return ConflictError("not_standing", text, rollback=control_id)
