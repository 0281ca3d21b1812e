"""J* = sup_theta J(theta), which the theorems compare the first policy with: exact, or bounded from above."""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial

from ticgrpo_theory.bounds.geometry import MAX_LISTED, Geometry, PromptGeometry, geometry
from ticgrpo_theory.worlds.mdp import TokenMDP


@dataclass(frozen=True)
class Optimum:
    """J* where `exact`, else a number that J never exceeds."""

    value: float
    exact: bool
    reason: str


def optimum(mdp: TokenMDP) -> Optimum:
    """J* = sup_theta J(theta): a policy can be as near as it likes to always taking one token in each row.

    Exact where some best response takes one token at all visits of each row, and for one row of two tokens;
    elsewhere the largest reward, averaged over prompts, which the theorems may use in its place.
    """
    world = geometry(mdp)
    largest = sum(p.weight * float(p.rewards[-1]) for p in world.prompts)
    if len(world.prompts) == 1 or rows_apart(world):
        if all(reaches_its_best(p) for p in world.prompts):
            return Optimum(largest, True, "the largest reward: a best response takes one token in each row")
    if mdp.num_rows == 1 and mdp.vocab_size == 2 and all(listable(p) for p in world.prompts):
        return Optimum(of_one_row(world), True, "the largest value of a polynomial in pi(0)")
    return Optimum(largest, False, "the largest reward, an upper bound")


def listable(prompt: PromptGeometry) -> bool:
    return prompt.graph.num_paths <= MAX_LISTED


def rows_apart(world: Geometry) -> bool:
    """Whether no two prompts share a row."""
    rows = np.concatenate([p.rows for p in world.prompts])
    return np.unique(rows).size == rows.size


def reaches_its_best(prompt: PromptGeometry) -> bool:
    """Whether a response of the largest reward takes the same token at every visit of a row."""
    if prompt.nu == 1:
        return True
    if not listable(prompt):
        return False
    paths, reward = prompt.graph.paths, prompt.graph.reward
    for n in np.flatnonzero(reward[paths.outcome] == prompt.rewards[-1]):
        pairs = {
            (s, a) for s, a, kept in zip(paths.rows[n], paths.tokens[n], paths.mask[n], strict=True) if kept
        }
        if len(pairs) == len({s for s, _ in pairs}):
            return True
    return False


def of_one_row(world: Geometry) -> float:
    """max over p in [0, 1] of J(p) = sum_y r(y) p^(tokens 0) (1 - p)^(tokens 1)."""
    p, J = Polynomial([0.0, 1.0]), Polynomial([0.0])
    for prompt in world.prompts:
        paths = prompt.graph.paths
        zeros = (paths.mask & (paths.tokens == 0)).sum(axis=1)
        ones = paths.mask.sum(axis=1) - zeros
        # Responses with the same counts share a monomial.
        for zero, one in sorted(set(zip(zeros.tolist(), ones.tolist(), strict=True))):
            total = prompt.graph.reward[paths.outcome][(zeros == zero) & (ones == one)].sum()
            J = J + prompt.weight * float(total) * p**zero * (1 - p) ** one
    turning = J.deriv().roots() if J.degree() > 0 else np.empty(0)
    # A double root may come back with an imaginary part; J at its real part is a value of J all the same.
    candidates = [0.0, 1.0, *np.clip(turning.real, 0.0, 1.0)]
    return float(max(J(x) for x in candidates))
