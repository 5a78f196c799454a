# mypy: ignore-errors
# ruff: noqa
# fmt: off
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchStart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WATCH_START_UNSPECIFIED: _ClassVar[WatchStart]
    WATCH_START_NOW: _ClassVar[WatchStart]
    WATCH_START_EARLIEST: _ClassVar[WatchStart]
WATCH_START_UNSPECIFIED: WatchStart
WATCH_START_NOW: WatchStart
WATCH_START_EARLIEST: WatchStart

class WatchDecisionsRequest(_message.Message):
    __slots__ = ("agent", "start", "until_end")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    UNTIL_END_FIELD_NUMBER: _ClassVar[int]
    agent: str
    start: WatchStart
    until_end: bool
    def __init__(self, agent: _Optional[str] = ..., start: _Optional[_Union[WatchStart, str]] = ..., until_end: _Optional[bool] = ...) -> None: ...

class WatchDecisionsResponse(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: bytes
    def __init__(self, record: _Optional[bytes] = ...) -> None: ...

class WatchQuarantineRequest(_message.Message):
    __slots__ = ("agent", "start", "until_end")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    UNTIL_END_FIELD_NUMBER: _ClassVar[int]
    agent: str
    start: WatchStart
    until_end: bool
    def __init__(self, agent: _Optional[str] = ..., start: _Optional[_Union[WatchStart, str]] = ..., until_end: _Optional[bool] = ...) -> None: ...

class WatchQuarantineResponse(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: bytes
    def __init__(self, record: _Optional[bytes] = ...) -> None: ...

class WatchWithdrawnRequest(_message.Message):
    __slots__ = ("agent", "start", "until_end")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    UNTIL_END_FIELD_NUMBER: _ClassVar[int]
    agent: str
    start: WatchStart
    until_end: bool
    def __init__(self, agent: _Optional[str] = ..., start: _Optional[_Union[WatchStart, str]] = ..., until_end: _Optional[bool] = ...) -> None: ...

class WatchWithdrawnResponse(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: bytes
    def __init__(self, record: _Optional[bytes] = ...) -> None: ...
