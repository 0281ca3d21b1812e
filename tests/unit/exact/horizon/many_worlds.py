"""Small worlds and every clip of whole responses: what an enclosure and enumeration are both given."""

from collections.abc import Iterator

import numpy as np
import torch

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.advantages import leave_one_out, standardised
from ticgrpo_theory.estimators.clipping import (
    by_sign_and_length,
    dual,
    saturating,
    two_sided,
    unclipped,
    upper_only,
)
from ticgrpo_theory.estimators.corrections import masked, rejected, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact.problem import CheckedProblem, PromptProblem
from ticgrpo_theory.mdp import TokenMDP

CLIPS = [
    upper_only(0.28),
    two_sided(0.2, 0.28),
    dual(0.2, 0.28, 1.5),
    by_sign_and_length(0.1, 1.4),
    saturating(upper_only(0.28)),
    saturating(dual(0.3, 0.2, 1.5, 0.5)),
]
CORRECTIONS = [
    truncated("sequence", None, 1.2),
    masked("sequence", 0.7, 1.3),
    rejected("sequence", 0.8, 1.2),
    truncated("sequence", 0.8, 1.2),
    masked("geometric", 0.9, 1.1),
    truncated("geometric", None, 1.05),
]


def estimators() -> list[Estimator]:
    """Ratios of whole responses with every clip, and every correction that reads a whole response."""
    found = [
        Estimator(ratios.trajectory, standardised(), clip, scale)
        for clip, scale in zip(CLIPS, [sequence_sum, token_mean, sequence_mean] * 2, strict=True)
    ]
    found += [Estimator(ratios.geometric_mean, standardised(), clip, sequence_mean) for clip in CLIPS]
    found += [
        Estimator(ratio, leave_one_out(), clip, sequence_sum, correction=correction)
        for correction in CORRECTIONS
        for ratio, clip in ((ratios.token, two_sided(0.2, 0.2)), (ratios.trajectory, unclipped()))
    ]
    return found


def world(seed: int) -> PromptProblem:
    """A tree or an automaton of at most 243 responses, with an estimator, drawn by theta_old or a sampler."""
    rng = np.random.default_rng(seed)
    V, T = int(rng.integers(2, 4)), int(rng.integers(2, 6))
    eos = None if rng.integers(2) else V - 1
    if rng.integers(2):
        Q = int(rng.integers(1, 4))
        moves = rng.integers(0, Q, (Q, V))
        rows = "state" if rng.integers(2) else "time_state"
        mdp = TokenMDP.automaton(moves, V, T, rng.integers(0, 3, Q) / 2, rows=rows, eos=eos)
    else:
        mdp = TokenMDP.prefix_tree(vocab_size=V, horizon=T, reward=lambda y: (sum(y) % 3) / 2, eos=eos)
    every = estimators()
    estimator = every[seed % len(every)]
    shape = (mdp.num_rows, V)
    old = rng.normal(size=shape)
    theta, sampler = (old + rng.normal(size=shape) * rng.choice([0.05, 0.3]) for _ in range(2))
    if rng.integers(4) == 0:
        # Log-ratios that are whole multiples of a step, up to the normaliser of a row.
        theta = old + rng.integers(-1, 2, shape) / 4
    drawn = sampler if estimator.correction is not None else None
    given = (mdp, *map(torch.from_numpy, (theta, old)), estimator, 3)
    return CheckedProblem(*given, theta_sampler=None if drawn is None else torch.from_numpy(drawn)).one


def worlds(first: int, last: int) -> Iterator[tuple[int, PromptProblem]]:
    """(seed, problem) of the seeds first..last - 1."""
    return ((seed, world(seed)) for seed in range(first, last))
