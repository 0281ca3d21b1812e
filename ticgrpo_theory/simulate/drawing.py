"""Compiled: the groups of an outer step are drawn from pi_theta_{n,0}, depth by depth, for one replicate.

Every logits row is exponentiated once, when the first response arrives there. A token is the first one whose
cumulative probability exceeds u.
"""

import math

import numpy as np

from ticgrpo_theory.exact.kernels import kernel, vexp
from ticgrpo_theory.simulate.uniforms import child_key, uniform


@kernel
def log_softmax(theta, slots, pi, log_total, scratch):
    """pi[u] = softmax(theta[u]), log_total[u] = logsumexp(theta[u]) for the slots u that are listed."""
    V = theta.shape[1]
    for i in range(slots.size):
        logits = theta[slots[i]]
        m = logits[0]
        for a in range(1, V):
            m = max(m, logits[a])
        log_total[slots[i]] = m
        for a in range(V):
            scratch[i, a] = logits[a] - m
    # One long loop: short rows would not fill the vector registers.
    flat = scratch[: slots.size].reshape(-1)
    for i in range(flat.size):
        flat[i] = vexp(flat[i])
    for i in range(slots.size):
        u, mass = slots[i], 0.0
        for a in range(V):
            mass += scratch[i, a]
        log_total[u] += math.log(mass)
        scale = 1.0 / mass
        for a in range(V):
            pi[u, a] = scratch[i, a] * scale


@kernel
def first_above(pi, u):
    """The first token a with pi[0] + ... + pi[a] > u; where rounding leaves none, the last possible one."""
    reached, last = 0.0, 0
    for a in range(pi.size):
        if pi[a] > 0.0:
            reached += pi[a]
            last = a
            if reached > u:
                break
    return last


@kernel
def prompt_of(weight, u):
    """The first prompt whose cumulative weight exceeds u, else the last."""
    reached = 0.0
    for q in range(weight.size - 1):
        reached += weight[q]
        if reached > u:
            return q
    return weight.size - 1


@kernel
def copy_rows(table, row, slots, theta, pi, log_total, scratch):
    """theta[u] = table[row[u]] for the slots that are listed, with softmax and logsumexp."""
    for u in slots:
        for a in range(table.shape[1]):
            theta[u, a] = table[row[u], a]
    log_softmax(theta, slots, pi, log_total, scratch)


@kernel
def arrive(node, row_of, slot_of, row, count, b, first_visit, used, visited, slot, new_slots):
    """Finds or takes a slot for every response that goes on; how many slots are new, in use, visited."""
    new = 0
    for i in range(node.size):
        slot[i] = -1
        if node[i] >= 0:
            s = row_of[node[i]]
            u = slot_of[s]
            if u < 0:
                u = count
                slot_of[s], row[u], new_slots[new] = u, s, u
                count += 1
                new += 1
            if first_visit[u] != b:
                first_visit[u] = b
                used[visited] = u
                visited += 1
            slot[i] = u
    return new, count, visited


@kernel
def step(forest, node, keys, t, theta, pi, log_total, slot, token, mask, logp_old, reward):
    """Token t of every response that goes on; node[i] < 0 once response i has ended."""
    onto, rewards, N = forest.onto, forest.reward, forest.row.size
    for i in range(node.size):
        u = slot[i]
        mask[i] = u >= 0
        logp_old[i] = 0.0
        if u >= 0:
            a = first_above(pi[u], uniform(keys[i], t))
            token[i] = a
            logp_old[i] = theta[u, a] - log_total[u]
            x = onto[node[i], a]
            if x < N:
                node[i] = x
            else:
                reward[i] = rewards[x - N]
                node[i] = -1


@kernel
def draw(forest, table, work, r, step_key, every_row):
    """Draws all groups of one outer step; afterwards work.theta[r] = work.start[r] = the visited rows of
    `table`.

    `every_row` lists the rows that get a slot in any case, in this order.
    """
    _, B, P, T, G = work.slot.shape
    slot_of, row, theta, pi = work.slot_of[r], work.row[r], work.theta[r], work.pi[r]
    log_total, scratch = work.log_total[r], work.scratch[r]
    for u in range(work.in_use[r]):
        slot_of[row[u]] = -1
    for u in range(every_row.size):
        row[u] = every_row[u]
        slot_of[every_row[u]] = u
    count = every_row.size
    copy_rows(table, row, np.arange(count), theta, pi, log_total, scratch)
    first_visit, new_slots = np.full(row.size, -1), np.empty(row.size, dtype=np.int64)
    keys, node = np.empty(G, dtype=np.int64), np.empty(G, dtype=np.int64)
    for b in range(B):
        visited = 0
        for p in range(P):
            # Negative numbers of responses belong to the prompts.
            group = b * P + p
            q = prompt_of(forest.weight, uniform(child_key(step_key, -1 - group), 0))
            work.prompt[r, b, p] = q
            for i in range(G):
                node[i] = forest.root[q]
                keys[i] = child_key(step_key, group * G + i)
            slot, token, mask = work.slot[r, b, p], work.token[r, b, p], work.mask[r, b, p]
            logp_old, reward, used = work.logp_old[r, b, p], work.reward[r, b, p], work.used[r, b]
            for t in range(T):
                new, count, visited = arrive(
                    node, forest.row, slot_of, row, count, b, first_visit, used, visited, slot[t], new_slots
                )
                if new > 0:
                    copy_rows(table, row, new_slots[:new], theta, pi, log_total, scratch)
                step(
                    forest,
                    node,
                    keys,
                    t,
                    theta,
                    pi,
                    log_total,
                    slot[t],
                    token[t],
                    mask[t],
                    logp_old[t],
                    reward,
                )
        work.used_count[r, b] = visited
    work.in_use[r] = count
    start, pi_start = work.start[r], work.pi_start[r]
    for u in range(count):
        for a in range(table.shape[1]):
            start[u, a] = theta[u, a]
            pi_start[u, a] = pi[u, a]


@kernel
def gather(theta, log_total, slot, token, logp):
    """logp[p, t, i] = log pi_theta(token[p, t, i]); 0 at padding."""
    P, T, G = slot.shape
    for p in range(P):
        for t in range(T):
            for i in range(G):
                u = slot[p, t, i]
                logp[p, t, i] = theta[u, token[p, t, i]] - log_total[u] if u >= 0 else 0.0
