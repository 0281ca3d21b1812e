"""The arrays that the compiled passes of one outer step work on, allocated once.

Logits rows that the groups of the step visit are copied into slots of a small table that stays in the cache
while K inner steps are taken; Adam moves every row, so there slots and rows are the same. Where every inner
step has groups of its own, it works on a table of their slots alone, its desk. Axes:

    R   replicates
    B   groups that different inner steps use: 1, or K if they are disjoint
    P   prompts of one inner step, with a group of G responses each
    U   slots;  D  slots of the groups of one inner step
    S, V, T as everywhere; T comes before G and V before U, so that loops run over neighbours in memory
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.simulate.settings import Settings
from ticgrpo_theory.simulate.state import State

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


class Plan(NamedTuple):
    """What all replicates and all steps of a run share."""

    rates: Floats
    """[N] eta of every outer step."""
    inner_steps: int
    every_row: NDArray[np.integer]
    """The logits rows that get a slot in any case, in this order: all of them under Adam, else none."""
    apart: bool
    """Whether inner steps have a desk of their own: groups of their own, and rows that do not all move."""
    score_at_start: bool
    """Whether the score is that of theta_old."""
    beta1: float
    """Of Adam, as `beta2` and `epsilon`; not read without it."""
    beta2: float
    epsilon: float


class Replicates(NamedTuple):
    """What R replicates carry from one outer step to the next: arrays of their State, written in place."""

    keys: NDArray[np.int64]
    """[R] of random numbers."""
    theta: Floats
    """[R, S, V] theta_{n,0}."""
    values: Floats
    """[R, N + outcomes] expected return onward from every node, then the rewards."""
    moments: Floats
    """[2, R, S, V] averages of Adam; [2, 0, S, V] without it."""
    sums: Floats
    """[R, 4] of the present outer step, columns in `outer_step`."""
    totals: Floats
    """[R, 4] of all outer steps that are done."""
    frozen: NDArray[np.int64]
    """[R] the outer step in which a replicate became non-finite, -1 while it has not."""


class Formula(NamedTuple):
    """An estimator's formula in compiled code, and where it writes."""

    coefficients: Callable
    """(reward [G], mask [T, G], scratch, out [G]): scale A, once for each group."""
    weights: Callable
    """(logp, logp_old [T, G], scale A [G], mask [T, G], scratch, out [T, G]): c, in every inner step."""
    scratch: Floats
    """[R, ...]"""
    coefficient: Floats
    """[R, B, P, G] scale A / P."""
    token_weights: Floats
    """[R, P, T, G] c."""


class Work(NamedTuple):
    """Scratch of one outer step for R replicates; nothing in it outlives the step."""

    slot: Ints
    """[R, B, P, T, G] column of the desk with the row that the token was drawn from; -1 at padding."""
    token: Ints
    """[R, B, P, T, G]"""
    mask: NDArray[np.bool_]
    """[R, B, P, T, G]"""
    logp_old: Floats
    """[R, B, P, T, G] log pi(token) at theta_{n,0}; 0 at padding."""
    reward: Floats
    """[R, B, P, G]"""
    prompt: Ints
    """[R, B, P]"""
    logp: Floats
    """[R, P, T, G] log pi(token) at the present inner step, of the groups that it uses; 0 at padding."""
    in_use: Ints
    """[R] slots in use."""
    row: Ints
    """[R, U] the logits row of a slot."""
    slot_of: Ints
    """[R, S] its inverse; -1 for rows without a slot."""
    used: Ints
    """[R, B, D] slots of the columns of the desk, where it is a table of its own."""
    used_count: Ints
    """[R, B] columns of the desk."""
    theta: Floats
    """[R, V, U] logits at the present inner step."""
    start: Floats
    """[R, V, U] logits at theta_{n,0}."""
    pi: Floats
    """[R, V, U] softmax of `theta`."""
    pi_start: Floats
    """[R, V, U] softmax of `start`."""
    log_total: Floats
    """[R, U] logsumexp of `theta`."""
    desk_theta: Floats
    """[R, V, D] logits of the columns of the desk; the arrays above where it is no table of its own."""
    desk_pi: Floats
    desk_pi_start: Floats
    desk_log_total: Floats
    slope: Floats
    """[R, V, U] exact grad J(theta_{n,0}) at the rows of the slots."""
    gradient: Floats
    """[R, V, D] g_hat of the present inner step."""
    scratch: Floats
    """[R, U]"""


def plan_of(settings: Settings) -> Plan:
    """What the passes read of the settings."""
    adam = settings.optimizer
    rows = np.arange(settings.mdp.num_rows) if settings.tree is None else settings.tree.order
    return Plan(
        rates=settings.learning_rates,
        inner_steps=settings.inner_steps,
        every_row=np.empty(0, dtype=np.int64) if adam is None else rows,
        apart=settings.num_batches > 1 and adam is None,
        score_at_start=bool(settings.estimator.score(False, True)),
        beta1=0.0 if adam is None else adam.beta1,
        beta2=0.0 if adam is None else adam.beta2,
        epsilon=0.0 if adam is None else adam.epsilon,
    )


def replicates_of(state: State, keys: NDArray[np.int64]) -> Replicates:
    """The arrays of the state as the passes move them; `keys` [R]."""
    return Replicates(
        keys=keys,
        theta=state.theta,
        values=state.values,
        moments=state.moments,
        sums=np.zeros((len(keys), 4)),
        totals=state.totals,
        frozen=state.frozen,
    )


def workspace(settings: Settings, plan: Plan, R: int) -> Work:
    """Room for all rows that one outer step of R replicates can visit."""
    S, V = settings.theta.shape
    B, P, T, G = settings.num_batches, settings.prompts_per_step, settings.mdp.horizon, settings.group_size
    U = S if settings.optimizer is not None else min(S, B * P * T * G)
    D = min(S, P * T * G) if plan.apart else U

    def rows(columns: int) -> dict[str, Floats]:
        tables = {name: np.zeros((R, V, columns)) for name in ("theta", "pi", "pi_start")}
        return tables | {"log_total": np.zeros((R, columns))}

    slots = rows(U)
    desk = rows(D) if plan.apart else slots
    return Work(
        slot=np.full((R, B, P, T, G), -1, dtype=np.int32),
        token=np.zeros((R, B, P, T, G), dtype=np.int32),
        mask=np.zeros((R, B, P, T, G), dtype=np.bool_),
        logp_old=np.zeros((R, B, P, T, G)),
        reward=np.zeros((R, B, P, G)),
        prompt=np.zeros((R, B, P), dtype=np.int32),
        logp=np.zeros((R, P, T, G)),
        in_use=np.zeros(R, dtype=np.int32),
        row=np.zeros((R, U), dtype=np.int32),
        slot_of=np.full((R, S), -1, dtype=np.int32),
        used=np.zeros((R, B, D), dtype=np.int32),
        used_count=np.zeros((R, B), dtype=np.int32),
        **slots,
        **{f"desk_{name}": array for name, array in desk.items()},
        start=np.zeros((R, V, U)),
        slope=np.zeros((R, V, U)),
        gradient=np.zeros((R, V, D)),
        scratch=np.zeros((R, U)),
    )
