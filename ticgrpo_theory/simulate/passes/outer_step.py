"""Compiled: the phases of an outer step, all replicates side by side; a replicate is always one thread's
work.

begin (draw groups, exact gradient where they went) -> advance K times -> conclude. A replicate that becomes
non-finite is frozen: `frozen[r]` holds the outer step, its logits stay at theta_{n,0}, nothing else of it
moves.
"""

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numba
import numpy as np

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
from ticgrpo_theory.worlds.compiling import borrowed, inner, kernel

ASCENT, MOVED, FIRST_ASCENT, FIRST_SQUARE = range(4)
"""Columns of the sums: <grad J, Delta>, ||Delta||^2, <grad J, g_hat_0>, ||g_hat_0||^2, over outer steps."""


@functools.cache
def pool_of(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads of this process, started once: a process that was forked has none of its parent's."""
    return ThreadPoolExecutor(threads)


def shared(some: Callable, replicates: int, *arguments: Any) -> None:
    """some(*arguments, first, end) for ranges that make up all replicates, one for each thread of numba's.

    The kernels release the lock of the interpreter. Threads of Python share them, not loops of numba's own:
    those cost three times as long to compile.
    """
    threads = min(numba.get_num_threads(), replicates)
    if threads <= 1:
        some(*arguments, 0, replicates)
        return
    ends = np.linspace(0, replicates, threads + 1).astype(int).tolist()
    pool = pool_of(os.getpid(), threads)
    parts = [pool.submit(some, *arguments, *part) for part in itertools.pairwise(ends)]
    try:
        for part in parts:
            part.result()
    finally:
        # Also after Ctrl-C nobody writes to the arrays any more once this has returned.
        wait(parts)


@inner
def begin_one(graphs, tree, plan, replicates, work, r, n):
    """Draws the groups of replicate r, finds grad J where they have been, and log pi for inner step 0."""
    logits, values = replicates.theta[r], replicates.values[r]
    draw(graphs, plan, logits, work, r, child_key(replicates.keys[r], n))
    if tree.order.size > 0:
        tree_slopes(graphs, tree, values, work, r)
    else:
        all_slopes(graphs, logits, values, work, r)
    prepare(work, r, np.int64(0), plan.apart)


@inner
def conclude_one(graphs, tree, replicates, work, r):
    """theta_{n+1,0} = theta_{n,K}; the sums are added only now, so that a frozen step leaves none."""
    sums, totals = replicates.sums[r], replicates.totals[r]
    write_back(work, r, replicates.theta[r], sums)
    if tree.order.size > 0:
        log_softmax(work.theta[r], work.pi[r], work.log_total[r], work.scratch[r], 0, work.in_use[r])
        refresh(graphs, tree, replicates.values[r], work, r)
    for i in range(sums.size):
        totals[i] += sums[i]


@inner
def freeze(replicates, work, r, n):
    """Replicate r became non-finite in outer step n; its log pi [P, T, G] are those of theta_{n,0} again."""
    replicates.frozen[r] = n
    logp, logp_old = work.logp[r], work.logp_old[r, 0]
    for p in range(logp.shape[0]):
        for t in range(logp.shape[1]):
            for i in range(logp.shape[2]):
                logp[p, t, i] = logp_old[p, t, i]


@kernel
def divide(A, P):
    """A [G] /= P."""
    for i in range(A.size):
        A[i] /= P


@kernel
def begin_some(graphs, tree, plan, replicates, work, n, since, until):
    """`begin` for the replicates since..until - 1."""
    graphs, tree, plan = borrowed(graphs), borrowed(tree), borrowed(plan)
    replicates, work = borrowed(replicates), borrowed(work)
    for r in range(since, until):
        if replicates.frozen[r] < 0:
            begin_one(graphs, tree, plan, replicates, work, r, n)


def begin(graphs, tree, plan, replicates, work, n):
    """Outer step n of R replicates begins: groups in work.slot to work.prompt [R, B, P, ...], exact grad J
    in work.slope [R, V, U], and log pi of inner step 0 in work.logp [R, P, T, G]. Frozen ones are left."""
    shared(begin_some, replicates.frozen.size, graphs, tree, plan, replicates, work, n)


@kernel
def advance_some(plan, replicates, work, n, k, weights, since, until):
    """`advance` for the replicates since..until - 1."""
    plan, replicates, work = borrowed(plan), borrowed(replicates), borrowed(work)
    for r in range(since, until):
        if replicates.frozen[r] < 0:
            if not inner_step(plan, replicates, work, r, n, k, weights[r]):
                freeze(replicates, work, r, n)
            elif k + 1 < plan.inner_steps:
                prepare(work, r, k + 1, plan.apart)


def advance(plan, replicates, work, n, k, weights):
    """Inner step k of outer step n along token weights [R, P, T, G]: work.theta [R, V, U] is moved, and
    work.logp holds log pi for inner step k + 1; where a replicate freezes, that of theta_{n,0}."""
    shared(advance_some, replicates.frozen.size, plan, replicates, work, n, k, weights)


@kernel
def conclude_some(graphs, tree, replicates, work, since, until):
    """`conclude` for the replicates since..until - 1."""
    graphs, tree = borrowed(graphs), borrowed(tree)
    replicates, work = borrowed(replicates), borrowed(work)
    for r in range(since, until):
        if replicates.frozen[r] < 0:
            conclude_one(graphs, tree, replicates, work, r)


def conclude(graphs, tree, replicates, work):
    """theta_{n,K} is written to replicates.theta [R, S, V], and the sums [R, 4] are added to the totals."""
    shared(conclude_some, replicates.frozen.size, graphs, tree, replicates, work)


@kernel
def run_some(graphs, tree, plan, replicates, work, formula, first, last, since, until):
    """`run` for the replicates since..until - 1."""
    graphs, tree, plan = borrowed(graphs), borrowed(tree), borrowed(plan)
    replicates, work, formula = borrowed(replicates), borrowed(work), borrowed(formula)
    for r in range(since, until):
        for n in range(first, last):
            if replicates.frozen[r] >= 0:
                break
            begin_one(graphs, tree, plan, replicates, work, r, n)
            B, P = work.prompt.shape[1:]
            for b in range(B):
                for p in range(P):
                    A = formula.coefficient[r, b, p]
                    formula.coefficients(work.reward[r, b, p], work.mask[r, b, p], formula.scratch[r], A)
                    divide(A, P)
            for k in range(plan.inner_steps):
                b = k if B > 1 else 0
                for p in range(P):
                    formula.weights(
                        work.logp[r, p],
                        work.logp_old[r, b, p],
                        formula.coefficient[r, b, p],
                        work.mask[r, b, p],
                        formula.scratch[r],
                        formula.token_weights[r, p],
                    )
                if not inner_step(plan, replicates, work, r, n, k, formula.token_weights[r]):
                    freeze(replicates, work, r, n)
                    break
                if k + 1 < plan.inner_steps:
                    # A call for the whole of it would hand on all arrays once more: a quarter slower.
                    prepare(work, r, k + 1, plan.apart)
            if replicates.frozen[r] < 0:
                conclude_one(graphs, tree, replicates, work, r)


def run(graphs, tree, plan, replicates, work, formula, first, last):
    """Outer steps first..last - 1 of R replicates with a compiled formula: begin, K times advance, conclude.

    In place: replicates.theta [R, S, V], .values [R, N + outcomes], .moments, .totals [R, 4], .frozen [R];
    replicates.sums [R, 4] are those of the last step. A replicate that becomes non-finite stops there.
    """
    shared(run_some, replicates.frozen.size, graphs, tree, plan, replicates, work, formula, first, last)


@kernel
def measure_some(graphs, theta, values, returns, squares, since, until):
    """`measure` for the replicates since..until - 1."""
    for r in range(since, until):
        gradient = np.empty(theta.shape[1:])
        returns[r] = whole_gradient(graphs, theta[r], values[r], gradient)
        total = 0.0
        for entry in gradient.flat:
            total += entry**2
        squares[r] = total


def measure(graphs, theta, values, returns, squares):
    """returns[r] = J, squares[r] = ||grad J||^2, values[r] is filled."""
    shared(measure_some, theta.shape[0], graphs, theta, values, returns, squares)


@kernel
def outcome_moments_of_some(graphs, theta, frozen, mean, std, since, until):
    """`outcome_moments_of` for the replicates since..until - 1."""
    for r in range(since, until):
        if frozen[r] < 0:
            outcome_moments(graphs, theta[r], mean[r], std[r])


def outcome_moments_of(graphs, theta, frozen, mean, std):
    """mean[r, q], std[r, q] of the reward of prompt q under theta[r]."""
    shared(outcome_moments_of_some, theta.shape[0], graphs, theta, frozen, mean, std)
