"""The compiled passes over trees and layered graphs: ours against NumPy, torch and what the hardware allows.

    python benchmarks/passes.py        # about 1 min on two cores

Trees: CPU time of one thread on either side. Layers: seconds on the clock, both sides with all threads that
torch takes by default, and a second time with one thread each.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import numba
import numpy as np
import torch
from baselines import LevelByLevel, response_by_response

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.clip_table import switched_off
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.exact.tree.tree_sums import response_weights
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds.graph import Tree
from ticgrpo_theory.worlds.kernels import exponentials, vexp
from ticgrpo_theory.worlds.policy import pull_back

REPEATS = 9
SINGLE_RESPONSES = 300
"""Responses that are differentiated one at a time; the rest is extrapolated by count."""
LOG_HIGHEST = math.log1p(0.28)
TABLE = switched_off((-math.inf, LOG_HIGHEST, -math.inf, LOG_HIGHEST))


def alternating(clock: Callable[[], float], *calls: Callable[[], object]) -> list[float]:
    """Median time of each call; they take turns, so that a busy machine slows all of them alike."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(REPEATS + 1):
        for taken, call in zip(times, calls, strict=True):
            start = clock()
            call()
            if repeat > 0:  # the first turn compiles and warms
                taken.append(clock() - start)
    return [median(taken) for taken in times]


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    gap = np.abs(found - expected).max()
    if not gap <= 1e-12:
        raise ValueError(f"the two ways differ by {gap:.3g}: there is nothing to compare")


@numba.njit(error_model="numpy")
def floor(theta, theta_old, scratch, out):
    """Exponentials of both tables, kept in cache, then one stream over both that writes another one."""
    for table in (theta, theta_old):
        for first in range(0, table.size, scratch.size):
            exponentials(table[first : first + scratch.size], scratch)
    for i in range(theta.size):
        out[i] = theta[i] - theta_old[i]


@numba.njit(error_model="numpy")
def fused_floor(theta, theta_old, out):
    """The same in one loop, the exponentials hidden behind the stream: no pass can do less."""
    for i in range(theta.size):
        out[i] = vexp(theta[i]) - vexp(theta_old[i])


class TreePass:
    """Clipped `tic_grpo` on the prefix tree of V^T responses, f given: our pass, NumPy, and the floor."""

    def __init__(self, V: int, T: int) -> None:
        generator = np.random.default_rng(0)
        self.f = generator.normal(size=V**T)
        self.tree, self.numpy = Tree(V, T, None, self.f), LevelByLevel(V, T)
        self.theta_old = generator.normal(size=self.numpy.M.shape)
        self.theta = self.theta_old + 0.1 * generator.normal(size=self.numpy.M.shape)
        self.M, self.scratch = np.empty(self.theta.shape), np.empty(2**12)

    def ours(self) -> np.ndarray:
        tables, exponent = (self.theta, self.theta_old, self.f, None), np.ones(self.tree.horizon + 1)
        return response_weights(self.tree, *tables, TABLE, exponent, out=self.M)

    def level_by_level(self) -> np.ndarray:
        return self.numpy.weights(self.theta, self.theta_old, self.f, LOG_HIGHEST)

    def floor(self) -> None:
        floor(self.theta.reshape(-1), self.theta_old.reshape(-1), self.scratch, self.M.reshape(-1))

    def fused_floor(self) -> None:
        fused_floor(self.theta.reshape(-1), self.theta_old.reshape(-1), self.M.reshape(-1))

    def one_at_a_time(self, responses: list[int], out: torch.Tensor) -> None:
        tables = (torch.from_numpy(x) for x in (self.theta, self.theta_old, self.f))
        response_by_response(self.tree.vocab_size, self.tree.horizon, *tables, LOG_HIGHEST, responses, out)


def check_small_tree() -> None:
    """All ways agree on 3^4 responses."""
    small = TreePass(3, 4)
    agree(small.ours(), small.level_by_level())
    M, theta, out = (torch.from_numpy(x.copy()) for x in (small.ours(), small.theta, 0 * small.theta))
    small.one_at_a_time(list(range(3**4)), out)
    agree(out.numpy(), pull_back(M, theta).numpy())


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def tree_vs_numpy() -> float:
    """CPU time of good NumPy / ours: clipped `tic_grpo` on a prefix tree of 4^12 responses, f given."""
    check_small_tree()
    V, T = 4, 12
    world = TreePass(V, T)
    agree(world.ours(), world.level_by_level())
    theirs, own = alternating(time.process_time, world.level_by_level, world.ours)
    few = np.random.default_rng(1).integers(0, V**T, SINGLE_RESPONSES).tolist()
    out = torch.zeros(world.theta.shape, dtype=torch.float64)
    each = alternating(time.process_time, lambda: world.one_at_a_time(few, out))[0] / SINGLE_RESPONSES
    print(
        f"tree of {V}^{T} = {V**T:,} responses: {own * 1e3:.0f} ms; NumPy {theirs * 1e3:.0f} ms, "
        f"ratio {theirs / own:.1f}; autograd, one response at a time, {each * 1e6:.0f} us each: "
        f"{each * V**T:,.0f} s by extrapolation, {each * V**T / own:,.0f} times as long"
    )
    return theirs / own


@one_thread()
def tree_vs_floor() -> float:
    """CPU time of ours / the floor: exponentials of both tables, one stream over them, the result written."""
    world = TreePass(4, 12)
    own, least, fused = alternating(time.process_time, world.ours, world.floor, world.fused_floor)
    print(
        f"tree of 4^12 responses: {own * 1e3:.0f} ms, floor {least * 1e3:.0f} ms, ratio {own / least:.2f}; "
        f"floor in one loop {fused * 1e3:.0f} ms, ratio {own / fused:.2f}"
    )
    return own / least


def dp_vs_log_softmax() -> float:
    """Seconds of the exact `grpo` gradient / two torch log-softmax passes: 64 states, V = 64, T = 1024.

    The whole public call: checks, distribution of the reward, conditional advantages, both passes, pull-back.
    """
    generator, Q, V, T, G = np.random.default_rng(0), 64, 64, 1024, 16
    moves = generator.integers(0, Q, (Q, V))
    mdp = TokenMDP.automaton(moves, V, T, (np.arange(Q) < 20).astype(float))
    theta_old = torch.from_numpy(generator.normal(size=(mdp.num_rows, V)))
    theta = theta_old + 0.2 * torch.from_numpy(generator.normal(size=theta_old.shape))

    def ours() -> torch.Tensor:
        return expected_gradient(mdp, theta, theta_old, ESTIMATORS["grpo"], group_size=G)

    def two_passes() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.log_softmax(theta, dim=-1), torch.log_softmax(theta_old, dim=-1)

    threads = torch.get_num_threads()
    own, theirs = alternating(time.perf_counter, ours, two_passes)
    with one_thread():
        own_alone, theirs_alone = alternating(time.perf_counter, ours, two_passes)
    print(
        f"layers, Q = {Q}, V = {V}, T = {T}: {own * 1e3:.0f} ms, two log-softmax passes "
        f"{theirs * 1e3:.0f} ms, ratio {own / theirs:.2f} on {threads} threads; {own_alone * 1e3:.0f} and "
        f"{theirs_alone * 1e3:.0f} ms, ratio {own_alone / theirs_alone:.2f}, on one"
    )
    return own / theirs


BENCHMARKS = {f.__name__: f for f in (tree_vs_numpy, tree_vs_floor, dp_vs_log_softmax)}

if __name__ == "__main__":
    for benchmark in BENCHMARKS.values():
        benchmark()
