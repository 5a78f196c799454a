"""Models to bytes and back, canonical and without pickle: `encode`, `decode`, `digest`.

The law of this package: bytes name only classes of a closed table (`class_table`), so decoding runs
no code that came as data, and equal state has equal bytes. `codec` is the envelope, `encoder` and
`decoder` the two ways, `tags` the marks both know; a number of `tags` never gets a new meaning.
`plans` makes anew what is derived and not written, `unseeded` stands for chance without a seed.
"""

from headrace.models.codec.codec import (
    MAX_BYTES,
    CodecError,
    UnsupportedType,
    decode,
    digest,
    encode,
    register,
)
from headrace.models.codec.tags import CODEC_VERSION

__all__ = [
    "CODEC_VERSION",
    "MAX_BYTES",
    "CodecError",
    "UnsupportedType",
    "decode",
    "digest",
    "encode",
    "register",
]
