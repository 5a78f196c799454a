"""The tags of the codec: the first item of every array says what the rest of it is.

Scalars (None, bool, int, float, str, bytes) stand for themselves; a msgpack map is a plain dict
with text keys and scalar values. Numbers are never given a new meaning; new ones are added.
"""

from __future__ import annotations

from typing import Final

CODEC_VERSION: Final = 1

REFERENCE: Final = 0  # n: the n-th container in order of appearance
DEFERRED: Final = 1  # the next of the envelope's deferred parts: keeps nesting shallow
LIST: Final = 2  # items
TUPLE: Final = 3  # items
DICT: Final = 4  # key, value, key, value …
SET: Final = 5  # items, sorted by their bytes
FROZENSET: Final = 6  # items, sorted by their bytes
DEQUE: Final = 7  # maxlen, items
COUNTER: Final = 8  # key, value …
DEFAULTDICT: Final = 9  # factory, key, value …
ORDEREDDICT: Final = 10  # key, value …
ARRAY: Final = 11  # dtype, "C" or "F", shape, bytes
NUMBER: Final = 12  # dtype, bytes: a numpy scalar
FLOAT64: Final = 13  # value: numpy.float64, frequent
RANDOM: Final = 14  # kind, version, 625 words as bytes, next gauss
UNSEEDED: Final = 15  # a random.Random or RandomState whose owner was given no seed
RANDOMSTATE: Final = 16  # words as bytes, position, has gauss, gauss
GENERATOR: Final = 17  # 128-bit state, 128-bit increment, has uint32, uint32
PARTIAL: Final = 18  # function, positional arguments, keywords
NAME: Final = 19  # name: a class or function of the table
METHOD: Final = 20  # object, method's name
BIGINT: Final = 21  # bytes, signed, little endian
DATETIME: Final = 22  # ISO 8601
DATE: Final = 23  # ISO 8601
TIMEDELTA: Final = 24  # days, seconds, microseconds
RUST: Final = 25  # class, constructor's arguments, state
VECTOR: Final = 26  # data, factory, mask: a VectorDict
ITERATOR: Final = 27  # items still to come, of a list's iterator
NAMEDTUPLE: Final = 28  # class, items
COMPLEX: Final = 29  # real, imaginary
ITEMGETTER: Final = 31  # the key that an operator.itemgetter gets
DEQUE_OF: Final = 30  # class, maxlen, attributes as a dict, items: a subclass of deque

OBJECT: Final = 32  # OBJECT + i: an instance of the i-th entry of the envelope's class list
