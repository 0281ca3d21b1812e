"""Groups some of whose rows lie in one micro-batch, some in a second one, and the rest in neither.

Of a group with k rows in the first and k' in the second, tilted by exp(-u_a l) and exp(-u_c l), with the
others as they are drawn; expectations are over the rows that are not named, v and v' the rewards of those
that are:

    none(k, k')[a, c]          E[prod exp(-u l)] of all its rows in either
    one(k, k')[s v, a, c]      E[A^s ... | v], a row of the first named
    two(k, k')[s v, s' v', a, c]   E[A^s A'^s' ... | v, v'], a row of each named
    square(k)[s, v, a]         E[(A^s)^2 ... | v], a row of the first named, no second one
    same(k)[s v, s' v', a]     two rows of the first named, no second one

The rows that are not named enter through integer sums: k - 1 tilted ones as an array over i, the others over
j, and A at i + j.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from ticgrpo_theory.estimators.advantage import reads_group
from ticgrpo_theory.exact.groups.outcomes import alone, split
from ticgrpo_theory.exact.updates.one_row.group_tables import Group

Sums = Float64[np.ndarray, "Q N"]


@dataclass(frozen=True, eq=False)
class TwoTilts:
    """The groups of one prompt; `merged` where a clip treats both signs of A alike."""

    group: Group
    merged: bool

    @property
    def signs(self) -> int:
        """1 where the clip is the same for either sign of A, else 2."""
        return 1 if self.merged else 2

    @cached_property
    def known(self) -> dict[tuple, np.ndarray]:
        """What has been computed."""
        return {}

    def once(self, key: tuple, make: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    @cached_property
    def A(self) -> Float64[np.ndarray, "s m N"]:
        """A of a row of every value whose mates have these sums; 0 at sums that they never have."""
        group, G = self.group, self.group.case.G
        index = group.plain[G - 1].index
        found = np.zeros((2, group.case.rewards.value.size, group.grid.shape_size))
        if reads_group(group.case.advantage):
            found[:, :, index] = group.values(index)
        else:
            found[:, :, index] = split(alone(group.case.advantage, group.case.rewards.value))[:, :, None]
        return found.sum(axis=0, keepdims=True) if self.merged else found

    def tilted(self, k: int, plain: int) -> Sums:
        """The sums of k tilted rows and so many plain ones, at every node."""

        def make() -> Sums:
            if k:
                return self.group.one_more(self.tilted(k - 1, plain))
            dense, drawn = np.zeros((len(self.group.u), self.group.grid.shape_size)), self.group.plain[plain]
            dense[:, drawn.index] = drawn.prob
            return dense

        return self.once(("tilted", k, plain), make)

    def none(self, k: int, other: int) -> Float64[np.ndarray, "a c"]:
        return np.outer(self.group.Phi**k, self.group.Phi**other)

    def over(self, table: Float64[np.ndarray, "K N"], k: int, other: int, named: int) -> np.ndarray:
        """[K, a, c]: E[table] at the sums of k rows tilted by u_a, `other` by u_c, the rest plain."""
        first, second = self.tilted(k, 0), self.tilted(other, self.group.case.G - k - other - named)
        i, j = np.flatnonzero(first.any(axis=0)), np.flatnonzero(second.any(axis=0))
        return np.stack([first[:, i] @ row[i[:, None] + j] @ second[:, j].T for row in table])

    def one(self, k: int, other: int) -> Float64[np.ndarray, "K a c"]:
        A = self.A.reshape(-1, self.A.shape[-1])
        return self.once(("one", k, other), lambda: self.over(A, k - 1, other, 1))

    @cached_property
    def products(self) -> Float64[np.ndarray, "K L N"]:
        """A_1^s A_2^s' of two rows, at the sums of the others."""
        S, m, N = self.A.shape
        at = np.zeros((S, m, m, N))
        for w, offset in enumerate(self.group.grid.offsets.tolist()):
            # Beside a row of value w the mates of the other one have its reward, too.
            at[:, :, w, : N - offset] = self.A[:, :, offset:]
        return np.einsum("svwn,twvn->svtwn", at, at).reshape(S * m, S * m, N)

    def two(self, k: int, other: int) -> Float64[np.ndarray, "K L a c"]:
        return self.once(("two", k, other), lambda: self.pairs(k - 1, other - 1))

    def same(self, k: int) -> Float64[np.ndarray, "K L a"]:
        return self.once(("same", k), lambda: self.here(self.products, k - 2, 2))

    def square(self, k: int) -> Float64[np.ndarray, "s m a"]:
        return self.once(("square", k), lambda: self.here(self.A**2, k - 1, 1))

    def pairs(self, k: int, other: int) -> Float64[np.ndarray, "K L a c"]:
        """`over` of two rows."""
        K, L, N = self.products.shape
        found = self.over(self.products.reshape(K * L, N), k, other, 2)
        return found.reshape(K, L, *found.shape[1:])

    def here(self, table: Float64[np.ndarray, "K L N"], k: int, named: int) -> Float64[np.ndarray, "K L a"]:
        """The same without a second micro-batch."""
        return np.einsum("kln,an->kla", table, self.tilted(k, self.group.case.G - k - named), optimize=True)
