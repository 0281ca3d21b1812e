"""Forward and backward over (node, bin), with the values of some depths kept and the others found again.

    F_t(n, x)  measure of arriving at node n of depth t in bin x
    H_t(n, x)  sum over what follows of the value of the response, middle and half width
    M[s, a] = sum_t sum_x F_t(n, x) token(s, a) H_{t+1}(n', x + shift(s, a))

Memory is that of 2 sqrt(T) layers.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.exact.dynamic.measures import Measure
from ticgrpo_theory.exact.horizon import kernels
from ticgrpo_theory.exact.horizon.increments import Bins
from ticgrpo_theory.exact.horizon.weights import Factor, over
from ticgrpo_theory.worlds.graph import Graph

Floats = NDArray[np.float64]
Rule = tuple[list[Factor], list[Factor]]
"""The factors of the weight at one length, for A >= 0 and for A < 0."""
RuleOf = Callable[[int], Rule]


class Pass:
    """The sums of one graph, one measure and one set of bins; `rule(length)` gives the factors."""

    def __init__(
        self, graph: Graph, measure: Measure, bins: Bins, plus: Floats, minus: Floats, rule: RuleOf
    ) -> None:
        self.graph, self.measure, self.bins = graph, measure, bins
        self.plus, self.minus, self.rule = plus, minus, rule
        self.largest = 0.0

    def values(self, length: int, outcomes: slice) -> Floats:
        """Middle and half width [o, 2, B + 1] of the values of responses that end with `length` tokens."""
        low, high = self.bins.interval(length)
        of_plus, of_minus = self.rule(length)
        weights = np.stack([*over(of_plus, low, high, length), *over(of_minus, low, high, length)])
        plus, minus = self.plus[outcomes], self.minus[outcomes]
        # A weight that no response needs may be infinite: 0 times it is 0.
        weights[:2] = weights[:2] if plus.any() else 0.0
        weights[2:] = weights[2:] if minus.any() else 0.0
        if not np.isfinite(weights).all():
            raise ValueError(
                f"a weight of responses of {length:,} tokens overflows float64: use a clip that bounds it "
                f"from above, or keep the policies closer together"
            )
        out = kernels.empty(plus.size, self.bins.count)
        kernels.outcome_values(np.ascontiguousarray(plus), np.ascontiguousarray(minus), weights, out)
        if out.size:
            self.largest = max(self.largest, float((np.abs(out[:, 0]) + out[:, 1]).max()))
        return out

    def ended(self, t: int) -> Floats:
        """Values of the outcomes that depth t ends in."""
        _, successor = self.graph.table(t)
        least = int(successor.min()) if successor.size else 0
        width = max(0, -least)
        if not width:
            return kernels.empty(0, self.bins.count)
        first = int(self.graph.ended_start[t])
        return self.values(t + 1, slice(first, first + width))

    def layer(self, t: int, onward: Floats) -> Floats:
        """H_t from H_{t+1}."""
        row, successor = self.graph.table(t)
        out = np.empty((row.size, 2, self.bins.count + 1))
        m, b = self.measure, self.bins
        kernels.backward_layer(
            row, successor, m.after, b.shift, b.up, *b.active(t), onward, self.ended(t), out
        )
        return out

    def final(self) -> Floats:
        T = self.graph.horizon
        return self.values(T, slice(self.graph.final_start, self.graph.reward.size))

    def sums(self) -> Floats:
        """Middle and half width of M [2, S, V]."""
        T, bins = self.graph.horizon, self.bins
        every = math.isqrt(T - 1) + 1
        kept, H = {T: self.final()}, None
        for t in reversed(range(1, T)):
            H = self.layer(t, kept[T] if H is None else H)
            if t % every == 0:
                kept[t] = H
        M = np.zeros((2, *self.measure.token.shape))
        mass = np.zeros((self.graph.nodes(0), bins.count + 1))
        mass[self.graph.start, bins.start] = 1.0
        for first in range(0, T, every):
            last = min(first + every, T)
            stored = {last: kept.pop(last)}
            for t in reversed(range(first + 1, last)):
                stored[t] = self.layer(t, stored[t + 1])
            for t in range(first, last):
                row, successor = self.graph.table(t)
                after = np.zeros((self.graph.nodes(t + 1), bins.count + 1))
                moves = (self.measure.before, self.measure.token, bins.shift, bins.up, *bins.active(t))
                onward = stored.pop(t + 1)
                kernels.forward_layer(row, successor, *moves, onward, self.ended(t), mass, after, M)
                mass = after
        return M
