"""Noise floors of Algorithms 1 and 2 on a grid of eta K and G, and what their regression says.

World "xor", where two tokens of one shared row must differ: J = 2 p (1 - p) has its optimum inside the
simplex, and noise never dies there. World "tree" has the same responses and rewards but a row for each
prefix: the optimum is at infinity, where noise dies. No clip and delta = 0.

`responses` G is what an outer step draws. Reused: one group of G for all K inner steps; disjoint: K groups of
G / K, one for each.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.estimators.catalogue import ESTIMATORS
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.fixed_points import policy
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.objective import expected_return
from ticgrpo_theory.floors.exact_floors import floor_at_fixed_point
from ticgrpo_theory.floors.simulated_floors import (
    Effort,
    Run,
    check_groups,
    check_step,
    floor_row,
    seed_of,
    tail_mean,
)
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.worlds.catalogue import WORLDS, first_token
from ticgrpo_theory.worlds.mdp import TokenMDP

START = 0.7
"""Probability of token 0 from which worlds without a floor are left to run."""


@dataclass(frozen=True)
class Series:
    """An estimator, its inner steps, and whether they share one group."""

    estimator: str
    inner_steps: int
    batches: Batches

    @property
    def groups(self) -> int:
        """Groups drawn in one outer step."""
        return self.batches.drawn(self.inner_steps)

    def fits(self, responses: int) -> bool:
        """Whether G responses make whole groups of two or more."""
        return responses % self.groups == 0 and responses // self.groups >= 2


SERIES = {
    # One inner step: stale, grpo and TIC with Eq. 11's scale are one estimator there. And `stale` in K steps
    # on one group is one step K times as long: the same point of the grid.
    "one-step": Series("stale", 1, Batches.REUSED),
    "grpo": Series("grpo", 4, Batches.REUSED),
    "tic-eq11": Series("tic_grpo_eq11", 4, Batches.REUSED),
    "tic-literal": Series("tic_grpo", 4, Batches.REUSED),
    "grpo-disjoint": Series("grpo", 4, Batches.DISJOINT),
}


def bare(name: str) -> Estimator:
    """The catalogue's estimator without its clip and with delta = 0."""
    return replace(ESTIMATORS[name], advantage=standardised(0.0), clip=unclipped())


def tree() -> TokenMDP:
    """The responses and rewards of "xor" with a row for each prefix."""
    return TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=lambda y: float(y[0] != y[1]))


def check_grid(series: Sequence[str], group_sizes: Sequence[int], steps: Sequence[float]) -> None:
    """Raise ValueError for a grid that cannot be run: value, limit, way out."""
    for name in series:
        if name not in SERIES:
            raise ValueError(f"unknown series {name!r}: choose from {', '.join(SERIES)}")
    check_groups(group_sizes)
    if not any(SERIES[name].fits(G) for name in series for G in group_sizes):
        raise ValueError(
            f"group_sizes = {tuple(group_sizes)}: none can be divided into groups of 2 or more for the "
            f"series {tuple(series)}; give multiples of 8"
        )
    for h in steps:
        check_step("eta K", h, "a step")


def cells(series: Iterable[str], group_sizes: Sequence[int], steps: Sequence[float]) -> list[tuple]:
    """(world, series, G, eta K) of every floor; the tree runs with one series, where that has a floor."""
    found = [("xor", name, G, h) for name in series for G in group_sizes for h in steps]
    found += [("tree", name, G, h) for _, name, G, h in found if name == "grpo"]
    return [key for key in found if SERIES[key[1]].fits(key[2])]


def cell(effort: Effort, world: str, name: str, G: int, h: float) -> dict[str, Any]:
    """One floor on "xor", begun at its fixed point; or as many steps of the tree, begun at START."""
    one, xor = SERIES[name], WORLDS["xor"].build()
    estimator, size = bare(one.estimator), G // one.groups
    settings = {"inner_steps": one.inner_steps, "batches": one.batches}
    about = {"world": world, "series": name, "responses": G, "eta_K": h}
    if world == "tree":
        run = effort.run(floor_at_fixed_point(xor, estimator, size, one.groups), size, h, **settings)
        return about | asdict(tail_mean(tree(), alike(tree(), START), estimator, run))
    row = floor_row(xor, estimator, effort, group_size=size, step=h, groups=one.groups, **settings)
    optimum = policy(xor, row["fixed_point"])
    c, _ = known_scale(xor, optimum, estimator, size)
    gap = expected_return(xor, optimum) - expected_return(xor, alike(xor, START))
    return about | row | {"without_burn_in": gap / (c * h * row["first_order"])}


def path_rows(
    world: str, G: int, h: float, length: float, replicates: int, seed: int
) -> list[dict[str, Any]]:
    """Means of ||grad J||^2 over stretches of a run of `grpo` from START, longer and longer."""
    mdp = WORLDS["xor"].build() if world == "xor" else tree()
    one, steps = SERIES["grpo"], math.ceil(length / h)
    run = Run(G, h, 1, steps, replicates, seed_of(seed, "path", G, h), one.inner_steps, one.batches)
    every, theta = max(1, math.floor(0.25 / h)), alike(mdp, START)
    trace = run.simulated(mdp, theta, bare(one.estimator), outer_steps=steps, record_every=every)
    records = trace.steps.numel()
    edges = np.unique(np.geomspace(1, records, 24).round().astype(int)) - 1
    found = []
    for begin, end in itertools.pairwise([*edges[:-1].tolist(), records]):
        mean = interval(trace.gradient_norm_sq[:, begin:end].mean(dim=1))
        time = h * float(trace.steps[begin:end].double().mean())
        value = {"time": time, "floor": float(mean.mean), "half": float(mean.half)}
        found.append({"world": world, "responses": G, "eta_K": h, **value})
    return found


def alike(mdp: TokenMDP, p: float) -> Float[Tensor, "S 2"]:
    """Logits with pi(0) = p in every row."""
    return first_token(p)(mdp).repeat(mdp.num_rows, 1)
