"""The users of a recommender: rows, of which those learned last and those changed are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Generic, TypeVar

from headrace.models.row_reading import RowReading
from headrace.ports import Rows

__all__ = ["USER_ROW", "UserRows"]

User = TypeVar("User")

USER_ROW: Final = b"u/"


class UserRows(Generic[User]):
    """Users by name: at most `hot_max` of them in memory besides changed ones, the rest as rows."""

    def __init__(
        self,
        encode: Callable[[User], bytes],
        decode: Callable[[bytes, bytes], User],
        hot_max: int,
    ) -> None:
        self._encode = encode
        self._decode = decode
        self._hot_max = hot_max
        self._hot: dict[str, User] = {}  # the one learned longest ago comes first
        self._changed: dict[str, None] = {}  # in this and not hot: deleted
        self._rows: Rows | None = None

    def attach(self, rows: Rows) -> None:
        """Forgets all users and reads them from `rows` from now on."""
        self._hot.clear()
        self._changed.clear()
        self._rows = rows

    def get(self, user: str) -> User | None:
        """The user, or None. Changes nothing, not even which users are in memory."""
        known = self._hot.get(user)
        if known is not None or self._rows is None or user in self._changed:
            return known
        name = USER_ROW + user.encode()
        row = self._rows.get(name)
        if row is None:
            return None
        with RowReading():
            return self._decode(row, name)

    def put(self, user: str, value: User) -> None:
        self._hot.pop(user, None)
        self._hot[user] = value
        self._changed[user] = None

    def drop(self, user: str) -> None:
        self._hot.pop(user, None)
        self._changed[user] = None

    def row(self, user: str) -> bytes | None:
        known = self.get(user)
        return None if known is None else self._encode(known)

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        for user in self._changed:
            known = self._hot.get(user)
            yield USER_ROW + user.encode(), None if known is None else self._encode(known)

    def flushed(self) -> None:
        self._changed.clear()
        for user in list(islice(self._hot, max(0, len(self._hot) - self._hot_max))):
            del self._hot[user]
