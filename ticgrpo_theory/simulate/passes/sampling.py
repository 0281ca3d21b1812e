"""Compiled: the groups of an outer step are drawn from pi_theta_{n,0}, depth by depth, for one replicate.

Every logits row is exponentiated once, when the first response arrives there. A token is the first one whose
cumulative probability exceeds u.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.simulate.passes.softmax import log_softmax
from ticgrpo_theory.simulate.passes.uniforms import child_key, uniform
from ticgrpo_theory.worlds.compiling import inner, kernel


class Rows(NamedTuple):
    """The slots of one replicate as `workspace.Work` holds them, without R: what a token is drawn from."""

    theta: NDArray[np.float64]
    """[V, U]"""
    pi: NDArray[np.float64]
    """[V, U]"""
    log_total: NDArray[np.float64]
    """[U]"""


class Group(NamedTuple):
    """One group while it is drawn: arrays of `workspace.Work` without R, B and P."""

    node: NDArray[np.int64]
    """[G] the node that a response has come to, < 0 once it has ended."""
    keys: NDArray[np.int64]
    """[G] of its random numbers."""
    slot: NDArray[np.int32]
    """[T, G], and likewise `token`, `mask` and `logp_old`."""
    token: NDArray[np.int32]
    mask: NDArray[np.bool_]
    logp_old: NDArray[np.float64]
    reward: NDArray[np.float64]
    """[G]"""


@kernel
def first_above(pi, u, x):
    """The first token a with pi[0, u] + ... + pi[a, u] > x; where rounding leaves none, the last possible."""
    reached, last = 0.0, 0
    for a in range(pi.shape[0]):
        if pi[a, u] > 0.0:
            reached += pi[a, u]
            last = a
            if reached > x:
                break
    return last


@kernel
def prompt_of(weight, x):
    """The first prompt whose cumulative weight exceeds x, else the last."""
    reached = 0.0
    for q in range(weight.size - 1):
        reached += weight[q]
        if reached > x:
            return q
    return weight.size - 1


@kernel
def copy_rows(logits, row, first, last, theta, pi, log_total, scratch):
    """theta[:, u] = logits[row[u]] for first <= u < last, with softmax and logsumexp."""
    for u in range(first, last):
        for a in range(logits.shape[1]):
            theta[a, u] = logits[row[u], a]
    log_softmax(theta, pi, log_total, scratch, first, last)


@kernel
def arrive(node, row_of, slot_of, row, count, slot, t):
    """slot[t, i] = the slot of the row that response i has come to; a new one if it has none yet."""
    for i in range(node.size):
        u = -1
        if node[i] >= 0:
            s = row_of[node[i]]
            u = slot_of[s]
            if u < 0:
                u = count
                slot_of[s], row[count] = u, s
                count += 1
        slot[t, i] = u
    return count


@inner
def step(graphs, rows, group, t):
    """Token t of every response of the group that goes on, and what it leads to."""
    onto, outcome, N = graphs.onto, graphs.reward, graphs.onto.shape[0]
    theta, pi, log_total = rows.theta, rows.pi, rows.log_total
    node, keys, slot, token = group.node, group.keys, group.slot, group.token
    mask, logp_old, reward = group.mask, group.logp_old, group.reward
    for i in range(node.size):
        u = slot[t, i]
        mask[t, i] = u >= 0
        logp_old[t, i] = 0.0
        if u >= 0:
            a = first_above(pi, u, uniform(keys[i], t))
            token[t, i] = a
            logp_old[t, i] = theta[a, u] - log_total[u]
            x = onto[node[i], a]
            node[i] = x
            if x >= N:
                reward[i] = outcome[x - N]
                node[i] = -1


@kernel
def place(slot, t, used, visited, column):
    """Replaces the slots of token t by columns of the desk; `used` lists the slots of the columns."""
    for i in range(slot.shape[1]):
        u = slot[t, i]
        if u >= 0:
            if column[u] < 0:
                column[u], used[visited] = visited, u
                visited += 1
            slot[t, i] = column[u]
    return visited


@kernel
def first_slots(every_row, in_use, row, slot_of):
    """Frees the slots of the step before; afterwards the rows that get a slot in any case have theirs."""
    for u in range(in_use):
        slot_of[row[u]] = -1
    for u in range(every_row.size):
        row[u] = every_row[u]
        slot_of[every_row[u]] = u
    return every_row.size


@inner
def draw(graphs, plan, logits, work, r, step_key):
    """Draws the groups [B, P] of one outer step; afterwards the slots hold the visited rows of logits."""
    _, B, P, T, G = work.slot.shape
    apart = plan.apart
    slot_of, row, scratch = work.slot_of[r], work.row[r], work.scratch[r]
    theta, pi, log_total = work.theta[r], work.pi[r], work.log_total[r]
    rows = Rows(theta, pi, log_total)
    count = first_slots(plan.every_row, work.in_use[r], row, slot_of)
    copy_rows(logits, row, 0, count, theta, pi, log_total, scratch)
    keys, node = np.empty(G, np.int64), np.empty(G, np.int64)
    column = np.empty(row.size if apart else 0, np.int32)
    for b in range(B):
        visited = 0
        column[:] = -1
        for p in range(P):
            # Negative numbers of responses belong to the prompts.
            number = b * P + p
            q = prompt_of(graphs.weight, uniform(child_key(step_key, -1 - number), 0))
            work.prompt[r, b, p] = q
            for i in range(G):
                node[i] = graphs.root[q]
                keys[i] = child_key(step_key, number * G + i)
            slot, token, mask = work.slot[r, b, p], work.token[r, b, p], work.mask[r, b, p]
            group = Group(node, keys, slot, token, mask, work.logp_old[r, b, p], work.reward[r, b, p])
            for t in range(T):
                known = count
                count = arrive(node, graphs.row, slot_of, row, count, slot, t)
                if count > known:
                    copy_rows(logits, row, known, count, theta, pi, log_total, scratch)
                step(graphs, rows, group, t)
                if apart:
                    visited = place(slot, t, work.used[r, b], visited, column)
        work.used_count[r, b] = visited
    work.in_use[r] = count
    start, pi_start = work.start[r], work.pi_start[r]
    for a in range(theta.shape[0]):
        for u in range(count):
            start[a, u] = theta[a, u]
            pi_start[a, u] = pi[a, u]


@inner
def lay_out(work, r, b):
    """Puts the slots of group b on a desk of their own."""
    used, all_theta, all_pi_start = work.used[r, b], work.theta[r], work.pi_start[r]
    theta, pi_start = work.desk_theta[r], work.desk_pi_start[r]
    D = work.used_count[r, b]
    for a in range(theta.shape[0]):
        for d in range(D):
            theta[a, d] = all_theta[a, used[d]]
            pi_start[a, d] = all_pi_start[a, used[d]]
    log_softmax(theta, work.desk_pi[r], work.desk_log_total[r], work.scratch[r], 0, D)


@inner
def gather(work, r, b):
    """work.logp[r] = log pi_theta(token) of group b by the desk; 0 at padding."""
    theta, log_total, logp = work.desk_theta[r], work.desk_log_total[r], work.logp[r]
    slot, token = work.slot[r, b], work.token[r, b]
    P, T, G = logp.shape
    for p in range(P):
        for t in range(T):
            for i in range(G):
                u = slot[p, t, i]
                logp[p, t, i] = theta[token[p, t, i], u] - log_total[u] if u >= 0 else 0.0
