"""Compiled: the phases of an outer step, all replicates side by side; a replicate is always one thread's
work.

begin (draw groups, exact gradient where they went) -> advance K times -> conclude. A replicate that leaves
the numbers is frozen: `frozen[r]` holds the outer step, its logits stay at theta_{n,0}, nothing else of it
moves.
"""

import inspect
from collections.abc import Callable

import numba
import numpy as np
from numba import prange

from ticgrpo_theory.simulate.passes.inner_step import inner_step, prepare, write_back
from ticgrpo_theory.simulate.passes.returns import (
    all_slopes,
    outcome_moments,
    refresh,
    tree_slopes,
    whole_gradient,
)
from ticgrpo_theory.simulate.passes.sampling import draw
from ticgrpo_theory.simulate.passes.softmax import log_softmax
from ticgrpo_theory.simulate.passes.uniforms import child_key
from ticgrpo_theory.worlds.kernels import kept, kernel

ASCENT, MOVED, FIRST_ASCENT, FIRST_SQUARE = range(4)
"""Columns of the sums: <grad J, Delta>, ||Delta||^2, <grad J, g_hat_0>, ||g_hat_0||^2, over outer steps."""


def parallel(f: Callable) -> Callable:
    """f compiled by numba with its prange loops shared among threads, and kept on disk."""
    return kept(numba.njit(inspect.unwrap(f), cache=True, parallel=True, error_model="numpy"))


@kernel
def begin_one(forest, tree, logits, worth, work, r, step_key, every_row, apart):
    """Draws the groups, finds grad J where they have been, and log pi for the first inner step."""
    draw(forest, logits, work, r, step_key, every_row, apart)
    if tree.order.size > 0:
        tree_slopes(forest, tree, worth, work, r)
    else:
        all_slopes(forest, logits, worth, work, r)
    prepare(work, r, 0, apart)


@kernel
def conclude_one(forest, tree, logits, worth, work, r, sums, totals):
    """theta_{n+1,0} = theta_{n,K}; the sums are added only now, so that a frozen step leaves none."""
    write_back(work, r, logits, sums)
    if tree.order.size > 0:
        log_softmax(work.theta[r], work.pi[r], work.log_total[r], work.scratch[r], 0, work.in_use[r])
        refresh(forest, tree, worth, work, r)
    for i in range(sums.size):
        totals[i] += sums[i]


@parallel
def begin(forest, tree, theta, worth, work, keys, step, frozen, every_row, apart):
    for r in prange(theta.shape[0]):
        if frozen[r] < 0:
            begin_one(forest, tree, theta[r], worth[r], work, r, child_key(keys[r], step), every_row, apart)


@parallel
def advance(
    work, step, k, inner_steps, weights, score_at_start, learning_rate, adam, moments, sums, frozen, apart
):
    for r in prange(weights.shape[0]):
        if frozen[r] < 0:
            c, count = weights[r], step * inner_steps + k + 1
            if not inner_step(
                work, r, k, c, score_at_start, learning_rate, adam, moments, count, sums[r], apart
            ):
                frozen[r] = step
                work.logp[r] = work.logp_old[r, 0]
            elif k + 1 < inner_steps:
                prepare(work, r, k + 1, apart)


@parallel
def conclude(forest, tree, theta, worth, work, sums, totals, frozen):
    for r in prange(theta.shape[0]):
        if frozen[r] < 0:
            conclude_one(forest, tree, theta[r], worth[r], work, r, sums[r], totals[r])


@parallel
def run(
    forest,
    tree,
    theta,
    worth,
    work,
    keys,
    first,
    last,
    frozen,
    every_row,
    coefficients,
    weights,
    scratch,
    advantage,
    token_weights,
    score_at_start,
    rates,
    adam,
    moments,
    inner_steps,
    sums,
    totals,
    apart,
):
    """Outer steps first..last - 1 with compiled formulas: what begin, advance and conclude do in turn."""
    for r in prange(theta.shape[0]):
        for n in range(first, last):
            if frozen[r] >= 0:
                break
            begin_one(forest, tree, theta[r], worth[r], work, r, child_key(keys[r], n), every_row, apart)
            B, P = work.prompt.shape[1:]
            for b in range(B):
                for p in range(P):
                    A = advantage[r, b, p]
                    coefficients(work.reward[r, b, p], work.mask[r, b, p], scratch[r], A)
                    for i in range(A.size):
                        A[i] /= P
            for k in range(inner_steps):
                b = k if B > 1 else 0
                for p in range(P):
                    weights(
                        work.logp[r, p],
                        work.logp_old[r, b, p],
                        advantage[r, b, p],
                        work.mask[r, b, p],
                        scratch[r],
                        token_weights[r, p],
                    )
                count = n * inner_steps + k + 1
                c, eta = token_weights[r], rates[n]
                if not inner_step(work, r, k, c, score_at_start, eta, adam, moments, count, sums[r], apart):
                    frozen[r] = n
                    break
                if k + 1 < inner_steps:
                    prepare(work, r, k + 1, apart)
            if frozen[r] < 0:
                conclude_one(forest, tree, theta[r], worth[r], work, r, sums[r], totals[r])


@parallel
def measure(forest, theta, worth, returns, squares):
    """returns[r] = J, squares[r] = ||grad J||^2, worth[r] is filled."""
    for r in prange(theta.shape[0]):
        gradient = np.empty(theta.shape[1:])
        returns[r] = whole_gradient(forest, theta[r], worth[r], gradient)
        total = 0.0
        for entry in gradient.flat:
            total += entry**2
        squares[r] = total


@parallel
def outcome_moments_of(forest, theta, frozen, mean, std):
    """mean[r, q], std[r, q] of the reward of prompt q under theta[r]."""
    for r in prange(theta.shape[0]):
        if frozen[r] < 0:
            outcome_moments(forest, theta[r], mean[r], std[r])
