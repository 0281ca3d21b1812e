"""Exact moments against the exact mean of the same estimator: one process, both warm, CPU time of one thread.

python benchmarks/moments.py        # about 15 s
"""

import time
from collections.abc import Callable
from statistics import median

import torch

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.exact import expected_gradient, gradient_moments, policy_gradient
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.mean.mean_weights import conditional, dynamic_weights
from ticgrpo_theory.exact.moments.estimator_moments import ratio_second_moment
from ticgrpo_theory.exact.moments.local_moments import local_moments
from ticgrpo_theory.exact.moments.pairs import pair_distribution
from ticgrpo_theory.exact.moments.spread import spread
from ticgrpo_theory.exact.problem import CheckedProblem
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.stats.rng import stream

V, T, G = 4, 10, 16
REPEATS = 9


def alternating_seconds(*calls: Callable[[], object]) -> list[float]:
    """Median CPU time of each call; they take turns, so that a busy machine slows all of them alike."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(REPEATS + 1):
        for taken, call in zip(times, calls, strict=True):
            start = time.process_time()
            call()
            if repeat > 0:  # the first turn compiles and warms
                taken.append(time.process_time() - start)
    return [median(taken) for taken in times]


def moments_vs_mean() -> float:
    """Time of all moments / time of the mean: `grpo`, rewards 0 and 1, prefix tree of 4^10 responses.

    The conditional expectations over the rest of the group are given to both. The mean is the pass that
    `expected_gradient` takes; the moments include grad J and E[w'^2].
    """
    generator = stream(0, "benchmarks", "moments")
    reward = torch.randint(0, 2, (V**T,), generator=generator).double()
    mdp = TokenMDP.prefix_tree(vocab_size=V, horizon=T, reward=reward)
    theta_old = torch.randn(mdp.num_rows, V, generator=generator, dtype=torch.float64)
    theta = theta_old + 0.1 * torch.randn(mdp.num_rows, V, generator=generator, dtype=torch.float64)
    grpo = ESTIMATORS["grpo"]
    problem = CheckedProblem(mdp, theta, theta_old, grpo, G).one
    f, pairs = conditional(problem, grpo), pair_distribution(problem, grpo)

    def mean() -> torch.Tensor:
        return dynamic_weights(problem, *f, forward_backward.token_gradient)

    def moments() -> torch.Tensor:
        found = local_moments(problem, pairs)
        variance = spread(problem, found.mean, found.covariance, found.squares).variance
        error = (found.mean - policy_gradient(mdp, theta)).square().sum()
        return error + variance + ratio_second_moment(problem)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gap = (local_moments(problem, pairs).mean - mean()).abs().max().item()
    if gap > 1e-12:
        raise ValueError(f"the two means differ by {gap:.3g}: there is nothing to compare")
    of_mean, of_moments, whole_mean, whole_moments = alternating_seconds(
        mean,
        moments,
        lambda: expected_gradient(mdp, theta, theta_old, grpo, group_size=G),
        lambda: gradient_moments(mdp, theta, theta_old, grpo, group_size=G),
    )
    torch.set_num_threads(threads)
    ratio, whole = of_moments / of_mean, whole_moments / whole_mean
    print(
        f"grpo, {V}^{T} responses, G = {G}: mean {of_mean * 1e3:.0f} ms, moments {of_moments * 1e3:.0f} ms, "
        f"ratio {ratio:.2f}; with the conditional expectations {whole_mean * 1e3:.0f} and "
        f"{whole_moments * 1e3:.0f} ms, ratio {whole:.2f}"
    )
    return ratio


BENCHMARKS = {moments_vs_mean.__name__: moments_vs_mean}

if __name__ == "__main__":
    for benchmark in BENCHMARKS.values():
        benchmark()
