"""The arrays that the compiled passes of one outer step work on, allocated once.

Only logits rows that the groups of the step visit are copied, into the slots of a small table that stays in
the cache while K inner steps are taken; Adam moves every row, so there slots and rows are the same. Axes:

    R   replicates            B   groups of an outer step that different inner steps use: 1, or K if disjoint
    M   P G responses of one inner step: G for each of P prompts
    U   slots                 S, V, T as everywhere
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


class Work(NamedTuple):
    """Scratch of one outer step for R replicates; nothing in it outlives the step."""

    slot: Ints
    """[R, B, M, T] slot of the row that token t of response m was drawn from; -1 at padding."""
    token: Ints
    """[R, B, M, T]"""
    logp_old: Floats
    """[R, B, M, T] log pi(token) at theta_{n,0}; 0 at padding."""
    logp: Floats
    """[R, M, T] the same at the present inner step, for the group that is used next."""
    reward: Floats
    """[R, B, M]"""
    prompt: Ints
    """[R, B, P]"""
    count: Ints
    """[R] slots in use."""
    row: Ints
    """[R, U] the logits row of a slot."""
    slot_of: Ints
    """[R, S] its inverse; -1 for rows without a slot."""
    used: Ints
    """[R, B, U] slots that a group visits, in the order of its first visits."""
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


def workspace(
    replicates: int,
    batches: int,
    prompts: int,
    group_size: int,
    horizon: int,
    num_rows: int,
    vocab_size: int,
    every_row: bool,
) -> Work:
    """Work with room for all rows that one outer step can visit."""
    R, B, M = replicates, batches, prompts * group_size
    U = num_rows if every_row else min(num_rows, B * M * horizon)
    return Work(
        slot=np.full((R, B, M, horizon), -1, dtype=np.int32),
        token=np.zeros((R, B, M, horizon), dtype=np.int32),
        logp_old=np.zeros((R, B, M, horizon)),
        logp=np.zeros((R, M, horizon)),
        reward=np.zeros((R, B, M)),
        prompt=np.zeros((R, B, prompts), dtype=np.int32),
        count=np.zeros(R, dtype=np.int32),
        row=np.zeros((R, U), dtype=np.int32),
        slot_of=np.full((R, num_rows), -1, dtype=np.int32),
        used=np.zeros((R, B, U), dtype=np.int32),
        used_count=np.zeros((R, B), dtype=np.int32),
        **{
            name: np.zeros((R, U, vocab_size))
            for name in ("theta", "start", "pi", "pi_start", "slope", "gradient", "scratch")
        },
        log_total=np.zeros((R, U)),
    )
