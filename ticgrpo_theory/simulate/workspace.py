"""The arrays that the compiled passes of one outer step work on, allocated once.

Only logits rows that the groups of the step visit are copied, into the slots of a small table that stays in
the cache while K inner steps are taken; Adam moves every row, so there slots and rows are the same. Axes:

    R   replicates
    B   groups that different inner steps use: 1, or K if they are disjoint
    P   prompts of one inner step, with a group of G responses each
    U   slots
    S, V, T as everywhere; T comes before G, so that loops run over neighbouring responses
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.simulate.settings import Settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


class Work(NamedTuple):
    """Scratch of one outer step for R replicates; nothing in it outlives the step."""

    slot: Ints
    """[R, B, P, T, G] slot of the row that the token was drawn from; -1 at padding."""
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
    """[R, B, U] slots that the groups of an inner step visit, in the order of first visits."""
    used_count: Ints
    """[R, B]"""
    theta: Floats
    """[R, U, V] logits at the present inner step."""
    start: Floats
    """[R, U, V] logits at theta_{n,0}."""
    pi: Floats
    """[R, U, V] softmax of `theta`."""
    pi_start: Floats
    """[R, U, V] softmax of `start`."""
    log_total: Floats
    """[R, U] logsumexp of `theta`."""
    slope: Floats
    """[R, U, V] exact grad J(theta_{n,0}) at the rows of the slots."""
    gradient: Floats
    """[R, U, V] g_hat of the present inner step."""
    scratch: Floats
    """[R, U, V]"""


def workspace(settings: Settings, R: int) -> Work:
    """Room for all rows that one outer step of R replicates can visit."""
    S, V = settings.theta.shape
    B, P, T, G = settings.batches, settings.prompts_per_step, settings.mdp.horizon, settings.group_size
    U = S if settings.optimizer is not None else min(S, B * P * T * G)
    tables = ("theta", "start", "pi", "pi_start", "slope", "gradient", "scratch")
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
        used=np.zeros((R, B, U), dtype=np.int32),
        used_count=np.zeros((R, B), dtype=np.int32),
        log_total=np.zeros((R, U)),
        **{name: np.zeros((R, U, V)) for name in tables},
    )
