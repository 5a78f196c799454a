"""One step of River's biased matrix factorization for one user and one item at hand.

River's object keeps dictionaries of all users and items. Here it is lent the one user and the one
item that an event is about, learns, and gives them back; so its tables stay with the caller, and a
step that fails leaves nothing behind.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from river import optim, reco

from headrace.errors import SpecError, Violation

__all__ = ["DOUBLES", "FactorStep", "Shared", "Side", "SlotVariable"]

# What an optimizer remembers for a bias or, as float64, for a vector of factors.
SlotVariable = float | bytes

_GENERATOR: Final = "MT19937"  # numpy's RandomState
DOUBLES: Final = np.dtype("<f8")  # of factors in rows


class Side(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the model knows of one user or of one item."""

    bias: float
    factors: bytes  # float64, little-endian
    slots: tuple[SlotVariable, ...] = ()  # of the bias's optimizer, then of the factors'


class _Generator(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    key: bytes  # uint32, little-endian
    position: int
    has_gauss: int
    gauss: float


class Shared(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What belongs to no user and no item: the running mean, step counts, generators' states."""

    mean_n: float
    mean: float
    steps: tuple[int, ...]
    generators: tuple[_Generator, ...]


class FactorStep:
    """A `reco.BiasedMF` that holds no users and no items between two steps.

    Raises SpecError for a model with an optimizer whose state is not per user and item.

    >>> step = FactorStep(reco.BiasedMF(n_factors=2, seed=7))
    >>> ann, up = step.learn("ann", None, "up", None, 4.0)
    >>> step.mean, ann.bias, len(ann.factors)
    (4.0, 2.687874701007509e-05, 16)
    """

    def __init__(self, model: reco.BiasedMF) -> None:
        self._model: Any = model
        self._user_slots = [*_slots(model.u_bias_optimizer), *_slots(model.u_latent_optimizer)]
        self._item_slots = [*_slots(model.i_bias_optimizer), *_slots(model.i_latent_optimizer)]
        self._optimizers = (
            model.u_bias_optimizer,
            model.i_bias_optimizer,
            model.u_latent_optimizer,
            model.i_latent_optimizer,
        )
        initializers = (model.weight_initializer, model.latent_initializer)
        self._generators: list[np.random.RandomState] = [
            vars(initializer)["_rng"] for initializer in initializers if "_rng" in vars(initializer)
        ]

    @property
    def mean(self) -> float:
        """The running mean of all ratings."""
        return float(self._model.global_mean.get())

    def learn(
        self, user: str, user_side: Side | None, item: str, item_side: Side | None, y: float
    ) -> tuple[Side, Side]:
        """River's `learn_one`. What is None is drawn by River, the user's before the item's.

        Raises ArithmeticError if anything would not stay finite; then nothing has changed.
        """
        model = self._model
        users = (model.u_biases, model.u_latents, self._user_slots)
        items = (model.i_biases, model.i_latents, self._item_slots)
        before = self.shared(generators=user_side is None or item_side is None)
        try:
            _lend(*users, user, user_side)
            _lend(*items, item, item_side)
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                model.learn_one(user, item, y)
                after = _taken(*users, user), _taken(*items, item)
            if not math.isfinite(self.mean):
                raise ArithmeticError("the mean would not stay finite")
        except BaseException:
            self.take(before)
            raise
        return after

    def shared(self, *, generators: bool = True) -> Shared:
        """A copy of what belongs to no user and no item, with or without the generators' states."""
        return Shared(
            self._model.global_mean.n,
            self.mean,
            tuple(optimizer.n_iterations for optimizer in self._optimizers),
            tuple(map(_generator, self._generators)) if generators else (),
        )

    def take(self, shared: Shared) -> None:
        """Goes on from what `shared` gave, here or elsewhere; raises ValueError if it does not fit.

        Generators are left as they are if it was given without them.
        """
        mean = self._model.global_mean
        mean.n, mean._mean = shared.mean_n, shared.mean
        for optimizer, count in zip(self._optimizers, shared.steps, strict=True):
            optimizer.n_iterations = count
        if shared.generators:
            for generator, saved in zip(self._generators, shared.generators, strict=True):
                key = np.frombuffer(saved.key, dtype="<u4").astype(np.uint32)
                place = (saved.position, saved.has_gauss, saved.gauss)
                generator.set_state((_GENERATOR, key, *place))


def _slots(optimizer: optim.base.Optimizer) -> list[tuple[optim.base.Optimizer, str]]:
    """The attributes in which an optimizer remembers something for each user or item.

    Raises SpecError for an optimizer with other state than these and its step count.
    """
    slots = []
    for name, value in vars(optimizer).items():
        if value is None or isinstance(value, dict):
            slots.append((optimizer, name))
        elif not isinstance(value, int | float | optim.base.Scheduler):
            text = f"optim.{type(optimizer).__name__} keeps state that has no form in rows"
            raise SpecError([Violation("$.model", text, "use optim.SGD")])
    return slots


def _lend(
    biases: dict[Any, Any],
    latents: dict[Any, Any],
    slots: Sequence[tuple[optim.base.Optimizer, str]],
    name: str,
    side: Side | None,
) -> None:
    """Fills River's tables with this one user or item; what is unknown is left for it to draw."""
    biases.clear()
    latents.clear()
    if side is not None:
        biases[name] = side.bias
        latents[name] = _vector(side.factors)
    for place, (optimizer, attribute) in enumerate(slots):
        memory: dict[str, Any] = defaultdict(float)
        if side is not None:
            slot = side.slots[place]
            memory[name] = _vector(slot) if isinstance(slot, bytes) else slot
        setattr(optimizer, attribute, memory)


def _taken(
    biases: dict[Any, Any],
    latents: dict[Any, Any],
    slots: Sequence[tuple[optim.base.Optimizer, str]],
    name: str,
) -> Side:
    """What River's tables hold now. Raises ArithmeticError if it is not finite."""
    bias, factors = float(biases[name]), latents[name]
    # A squared length is finite only if all factors are; it overflows early, from 1e154 on.
    if not math.isfinite(bias + float(np.dot(factors, factors))):
        raise ArithmeticError("a bias or a factor would not stay finite")
    memory = (getattr(optimizer, attribute)[name] for optimizer, attribute in slots)
    packed_memory = tuple(
        m.astype(DOUBLES, copy=False).tobytes() if isinstance(m, np.ndarray) else float(m)
        for m in memory
    )
    return Side(bias, factors.astype(DOUBLES, copy=False).tobytes(), packed_memory)


def _vector(data: bytes) -> NDArray[np.float64]:
    return np.frombuffer(data, DOUBLES).astype(np.float64)


def _generator(generator: np.random.RandomState) -> _Generator:
    state: Any = generator.get_state(legacy=True)
    _, key, position, has_gauss, gauss = state
    return _Generator(key.astype("<u4").tobytes(), position, has_gauss, gauss)
