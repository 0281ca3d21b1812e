"""Expectations over groups: ours against listing every group, in one process, in float64, both warm.

python benchmarks/groups.py        # about 40 s on one core
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations_with_replacement
from statistics import median

import numpy as np
import torch
from baselines_groups import enumerated_advantages, multisets_one_by_one, some_multisets

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.exact.groups.conditional import conditional_advantages
from ticgrpo_theory.exact.groups.every_group import EveryGroup
from ticgrpo_theory.exact.groups.outcomes import outcomes
from ticgrpo_theory.exact.mean.mean_weights import multiset_weights
from ticgrpo_theory.stats.rng import stream
from ticgrpo_theory.worlds import WORLDS

REWARDS = np.arange(5) / 4
PROB = np.array([0.3, 0.2, 0.1, 0.15, 0.25])
DELTA = 1e-6
SINGLE_GROUPS = 3000
"""Groups that are timed one at a time; the rest is extrapolated by count."""


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds(f: Callable[[], object], repeats: int) -> float:
    """Median time of `repeats` calls, after one that is not counted."""
    f()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        f()
        times.append(time.process_time() - start)
    return median(times)


@one_thread()
def groups_vs_enumeration(group_size: int, enumerations: int) -> float:
    """CPU time of listing every vector of reward counts / time of conditional_advantages, rewards k/4."""
    drawn = (REWARDS, np.ones(5), PROB, group_size, None)

    def ours() -> np.ndarray:
        return np.stack(conditional_advantages(outcomes(standardised(DELTA), sequence_sum, *drawn)))

    enumerated_advantages(REWARDS, PROB, 4, DELTA)  # compiled and warm; the timed calls are long
    times = []
    for _ in range(enumerations):
        start = time.process_time()
        listed = enumerated_advantages(REWARDS, PROB, group_size, DELTA)
        times.append(time.process_time() - start)
    gap = np.abs(listed - ours()).max()
    if gap > 1e-10:
        raise ValueError(f"the two ways differ by {gap:.3g} at G = {group_size}: there is nothing to compare")
    theirs, own = median(times), seconds(ours, 15)
    compositions = math.comb(group_size + 3, 4)
    print(
        f"groups, rewards k/4, G = {group_size}: {own * 1e3:.2f} ms; listing {compositions:,} compositions: "
        f"{theirs * 1e3:.1f} ms ({theirs / compositions * 1e9:.0f} ns each); ratio {theirs / own:.1f}"
    )
    return theirs / own


def groups_vs_enumeration_64() -> float:
    return groups_vs_enumeration(64, 5)


def groups_vs_enumeration_256() -> float:
    return groups_vs_enumeration(256, 1)


@one_thread()
def multisets_vs_single() -> float:
    """CPU time of one group at a time (extrapolated by count) / batched, `grpo`, (N, G, T) = (26, 8, 3).

    The batched side sums over all C(33, 8) multisets, once: it runs for many seconds.
    """
    N, G, T = 26, 8, 3
    generator = stream(0, "benchmarks", "multisets")
    mask = torch.ones(N, T, dtype=torch.bool)
    logp_old = torch.log_softmax(torch.randn(N, T, 3, generator=generator, dtype=torch.float64), -1)[..., 0]
    logp = logp_old + 0.2 * torch.randn(N, T, generator=generator, dtype=torch.float64)
    reward = torch.randint(0, 5, (N,), generator=generator).double() / 4
    prob = torch.softmax(torch.randn(N, generator=generator, dtype=torch.float64), 0)
    grpo, count = ESTIMATORS["grpo"], math.comb(N + G - 1, G)

    def batched(n: int) -> torch.Tensor:
        p = prob[:n] / prob[:n].sum()

        def batch_of(members: torch.Tensor, positions: torch.Tensor) -> Batch:
            tables = (logp[members], logp_old[members], reward[members], mask[members])
            return Batch(*tables, horizon=T)

        return multiset_weights(EveryGroup(grpo, p.numpy(), G), batch_of, n, T)

    def single(n: int, groups: list[tuple[int, ...]]) -> torch.Tensor:
        p = (prob[:n] / prob[:n].sum()).numpy()
        return multisets_one_by_one(grpo, logp, logp_old, reward, mask, p, iter(groups))[0]

    few = list(combinations_with_replacement(range(4), G))
    gap = (single(4, few)[:4] - batched(4)).abs().max().item()
    if gap > 1e-12:
        raise ValueError(
            f"the two ways differ by {gap:.3g} on (N, G) = (4, {G}): there is nothing to compare"
        )
    sample = list(some_multisets(N, G, count // SINGLE_GROUPS))
    each = seconds(lambda: single(N, sample), 3) / len(sample)
    batched(12)
    start = time.process_time()
    batched(N)
    own = (time.process_time() - start) / count
    print(
        f"multisets, grpo, (N, G) = ({N}, {G}), {count:,} groups: batched {own * 1e6:.2f} us each; "
        f"one at a time {each * 1e6:.0f} us each, from {len(sample):,} of them; ratio {each / own:.0f}"
    )
    return each / own


def centred_objective(batch: Batch) -> torch.Tensor:
    """The mean over responses of (reward - mean) times the importance ratios of their tokens."""
    A = batch.reward - batch.reward.mean()
    ratio = (batch.logp - batch.logp_old).exp()
    return (A[:, None] * ratio).where(batch.mask, 0.0).sum() / len(A)


@one_thread()
def checked_vs_unchecked() -> float:
    """CPU time of a callable whose order is checked / with symmetric=True, right-answer, (N, G) = (27, 4).

    Smaller is better. Both sides are expected_gradient of one objective over the 27,405 multisets of four
    responses, off-policy. The checked side evaluates every multiset once more with its members reordered, the
    other one once more as it is, to notice an estimator that answers by mood: what is measured is the price
    of reordering. The two take turns in one run, so that a busy machine slows both.
    """
    mdp = WORLDS["right-answer"].build()
    old = WORLDS["right-answer"].theta_old(mdp)
    theta = old + policy_gradient(mdp, old)

    def timed(symmetric: bool | None) -> tuple[float, torch.Tensor]:
        start = time.process_time()
        found = expected_gradient(mdp, theta, old, centred_objective, 4, symmetric=symmetric)
        return time.process_time() - start, found

    timed(None)
    timed(True)
    runs = [(timed(None), timed(True)) for _ in range(TURNS)]
    gap = max(float((checked[1] - trusted[1]).abs().max()) for checked, trusted in runs)
    if gap > 1e-12:
        raise ValueError(f"the two ways differ by {gap:.3g}: there is nothing to compare")
    checked, trusted = (median(run[side][0] for run in runs) for side in (0, 1))
    print(
        f"order of a callable, (N, G) = (27, 4): checked {checked:.2f} s, trusted {trusted:.2f} s; ratio "
        f"{checked / trusted:.2f}"
    )
    return checked / trusted


TURNS = 5
"""Times that the checked and the unchecked side take turns."""

BENCHMARKS = {
    f.__name__: f
    for f in (groups_vs_enumeration_64, groups_vs_enumeration_256, multisets_vs_single, checked_vs_unchecked)
}

if __name__ == "__main__":
    for benchmark in BENCHMARKS.values():
        benchmark()
