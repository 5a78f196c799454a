"""Models to bytes and back: canonical, typed, and without pickle.

`encode` walks an object graph (a River pipeline, a metric, our own state) into msgpack with tags
and class names; `decode` builds objects only from a closed table of classes, so bytes can neither
name other code nor run any. Equal state gives equal bytes, whatever its history, so a digest of
the bytes is a digest of the state. Check a digest *before* decoding: bytes with one flipped bit
are often another valid model.

The envelope is `[version, classes, value, deferred]`; `classes` lists each class that occurs with
its field names, so that state of another River version is seen as such.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from headrace.errors import CorruptStateError
from headrace.models.codec.class_table import ClassTable, Plan, river_table
from headrace.models.codec.decoder import Decoder
from headrace.models.codec.encoder import Encoder, UnsupportedType
from headrace.models.codec.plans import install_pipeline_plan
from headrace.models.codec.tags import CODEC_VERSION
from headrace.models.panics import failures

__all__ = [
    "MAX_BYTES",
    "CodecError",
    "UnsupportedType",
    "decode",
    "digest",
    "encode",
    "register",
]

MAX_BYTES: Final = 256 * 2**20  # of one encoded graph
_MAX_HEADERS: Final = 4096  # class lists whose plans are kept ready


class CodecError(CorruptStateError):
    """Bytes that no encoder of this build has written. The text says what is wrong with them."""


class _Envelope(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    version: int
    classes: msgspec.Raw
    value: Any
    deferred: list[Any]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Envelope).decode
_unpack_classes = msgspec.msgpack.Decoder(list[tuple[str, tuple[str, ...]]]).decode
_headers: dict[bytes, tuple[Plan, ...]] = {}


def encode(item: Any) -> bytes:
    """The canonical bytes of `item`. Raises UnsupportedType for what the table does not hold.

    >>> from river import linear_model
    >>> model = linear_model.LinearRegression()
    >>> model.learn_one({"x": 1.0}, 2.0)
    >>> decode(encode(model)).predict_one({"x": 1.0})
    0.08
    >>> encode(decode(encode(model))) == encode(model)
    True
    """
    try:
        data = _pack(Encoder(known_classes(), big_ints=False).envelope(item))
    except OverflowError:
        data = _pack(Encoder(known_classes(), big_ints=True).envelope(item))
    except UnicodeEncodeError as error:
        raise UnsupportedType(f"text that is not Unicode: {error.reason}") from None
    if len(data) > MAX_BYTES:
        raise UnsupportedType(f"{len(data)} bytes are more than {MAX_BYTES}")
    return data


def decode(data: bytes, *, sets: type[set[Any]] = set) -> Any:
    """The object that `encode` wrote. Raises CodecError for any other bytes.

    `sets` is for the law that looks whether the order of sets matters: the class they become.

    >>> try:
    ...     decode(b"nonsense")
    ... except CorruptStateError as error:
    ...     print(error)
    not the bytes of a model: Expected `array`, got `int`
    """
    if len(data) > MAX_BYTES:
        raise CodecError(f"{len(data)} bytes are more than a model may have ({MAX_BYTES})")
    try:
        envelope = _unpack(data)
        if envelope.version != CODEC_VERSION:
            raise ValueError(f"codec {envelope.version}, and this build reads {CODEC_VERSION}")
        decoder = Decoder(known_classes(), _plans(bytes(envelope.classes)), sets)
        return decoder.root(envelope.value, envelope.deferred)
    except failures(MemoryError, msgspec.MsgspecError) as error:
        raise CodecError(f"not the bytes of a model: {error}") from error


def digest(data: bytes) -> str:
    """SHA-256 of `data`, hexadecimal.

    >>> digest(b"")[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(data).hexdigest()


def register(
    cls: type,
    name: str,
    *,
    derived: frozenset[str] = frozenset(),
    after: Callable[[Any], None] | None = None,
) -> None:
    """Let the codec write and read instances of `cls` under `name` from now on.

    `derived` names attributes that are not state (caches); `after` makes them anew when an
    instance is read. Call it at import, in the module that defines the class.
    """
    held = known_classes()
    held.add(name, cls)
    if derived:
        held.derived[cls] = derived
    if after is not None:
        held.after[cls] = after


def _plans(classes: bytes) -> tuple[Plan, ...]:
    found = _headers.get(classes)
    if found is None:
        held = known_classes()
        found = tuple(held.plan(name, fields) for name, fields in _unpack_classes(classes))
        if len(_headers) >= _MAX_HEADERS:
            _headers.clear()
        _headers[classes] = found
    return found


@functools.cache
def known_classes() -> ClassTable:
    """The closed table with all that this process knows: River's classes, ours, other packages'."""
    # Here, because the catalog is built upon the codec.
    from headrace.models.catalog.extensions import own_classes
    from headrace.models.catalog.replacements import OrderedSet

    held = river_table()
    install_pipeline_plan(held)
    held.add("headrace.OrderedSet", OrderedSet)
    for name, cls in own_classes().items():
        if held.name_of(cls) is None:
            held.add(name if held.is_free(name) else f"headrace.{name}", cls)
    return held
