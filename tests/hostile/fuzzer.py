"""A byte fuzzer: one seed is one sequence of spoilt texts, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

# What parsers stumble over: brackets, quotes, escapes, numbers at their edges, bad UTF-8, varints.
TOKENS = (
    b"{", b"}", b"[", b"]", b'"', b"'", b"\\",
    b",", b":", b"/*", b"#", b"&a ", b"*a", b"!!", b"---\n",
    b"null", b"true", b"NaN", b"-Infinity", b"1e999",
    b"-0", b"01", b"0x1f", b"9" * 40, b".5", b"1e-400",
    b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"\\ud800", b"\\u0000", b"\xe2\x80\xae",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"\x0a\xff\xff\xff\x7f",
    b"\x0b", b"\x0c", b"\t\n ",
    b"[" * 70, b"{" * 40, b"$.", b"~", b"<<: ", b"? ", b"|\n", b"%YAML 9\n",
)  # fmt: skip


class Fuzzer:
    """Spoils texts; `seed` and the number of calls so far decide how.

    >>> Fuzzer(1).spoil(b'{"a": 1}') == Fuzzer(1).spoil(b'{"a": 1}') != b'{"a": 1}'
    True
    """

    def __init__(self, seed: int | str) -> None:
        self.chance = Random(seed)

    def spoil(self, text: bytes, others: Sequence[bytes] = ()) -> bytes:
        """The text with one to four faults in it; `others` lend it parts of theirs."""
        spoilt = bytearray(text)
        for _ in range(self.chance.randint(1, 4)):
            self._fault(spoilt, others)
        return bytes(spoilt)

    def _fault(self, text: bytearray, others: Sequence[bytes]) -> None:
        chance = self.chance
        at = chance.randrange(len(text) + 1)
        end = min(at + chance.randint(1, 12), len(text))
        kind = chance.randrange(8)
        if kind == 0 and at < len(text):
            text[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and at < len(text):
            text[at] = chance.randrange(256)
        elif kind == 2:
            del text[at:end]
        elif kind == 3:
            text[at:at] = chance.choice(TOKENS)
        elif kind == 4:
            text[at:end] = chance.choice(TOKENS)
        elif kind == 5:
            text[at:at] = text[at:end] * chance.choice((1, 2, 30))
        elif kind == 6:
            del text[at:]
        elif others:
            other = chance.choice(others)
            begin = chance.randrange(len(other) + 1)
            text[at:end] = other[begin : begin + chance.randint(1, 40)]
        else:
            text.reverse()
