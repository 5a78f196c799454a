"""What a model has to beat: the key's last value, its running mean, its commonest class.

They cost a few numbers per key. A model that is not better than these learns nothing of use.
"""

from __future__ import annotations

import msgspec

Value = float | bool | str
CLASSES_MAX = 256  # classes counted per key; a new one beyond them is not counted


class Baseline(msgspec.Struct, array_like=True):
    """One key's labels so far, enough for the guesses that need no model.

    Numbers and booleans have a running mean (a boolean's is the share of true); classes are
    counted. Before the first label the guesses are 0.0 and 0.0, of classes None.

    >>> base = Baseline()
    >>> for y in (3.0, 5.0, 10.0):
    ...     base.learn_number(y)
    >>> base.last, base.mean
    (10.0, 6.0)
    >>> colours = Baseline()
    >>> for y in ("red", "blue", "blue", "red", "blue", "red", "red"):
    ...     colours.learn_class(y)
    >>> colours.majority(), colours.last
    ('red', 'red')
    """

    count: int = 0
    mean: float = 0.0
    last: Value | None = None
    classes: dict[Value, int] | None = None

    def learn_number(self, y: float) -> None:
        """Take in one number or boolean."""
        self.count += 1
        self.mean += (y - self.mean) / self.count
        self.last = y

    def learn_class(self, y: Value) -> None:
        """Take in one class."""
        self.count += 1
        if self.classes is None:
            self.classes = {}
        if y in self.classes or len(self.classes) < CLASSES_MAX:
            self.classes[y] = self.classes.get(y, 0) + 1
        self.last = y

    def majority(self) -> Value | None:
        """The commonest class so far; of several, the one that came first."""
        return max(self.classes, key=self.classes.__getitem__) if self.classes else None
