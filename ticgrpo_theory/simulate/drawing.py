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
def draw_depth(forest, node, keys, t, b, work, r, table, first_visit, slots):
    """Token t of all responses of group b; node[m] < 0 once response m has ended. Whether any goes on."""
    N = forest.row.size
    slot, token, logp_old = work.slot[r, b], work.token[r, b], work.logp_old[r, b]
    slot_of, row, reward = work.slot_of[r], work.row[r], work.reward[r, b]
    theta, pi, log_total = work.theta[r], work.pi[r], work.log_total[r]
    used, new, count, visited = work.used[r, b], 0, work.count[r], work.used_count[r, b]
    for m in range(node.size):
        if node[m] < 0:
            slot[m, t] = -1
            logp_old[m, t] = 0.0
            continue
        s = forest.row[node[m]]
        u = slot_of[s]
        if u < 0:
            u = count
            slot_of[s], row[u], slots[new] = u, s, u
            count += 1
            new += 1
        if first_visit[u] != b:
            first_visit[u] = b
            used[visited] = u
            visited += 1
        slot[m, t] = u
    work.count[r], work.used_count[r, b] = count, visited
    copy_rows(table, row, slots[:new], theta, pi, log_total, work.scratch[r])
    going = False
    for m in range(node.size):
        if node[m] >= 0:
            u = slot[m, t]
            a = first_above(pi[u], uniform(keys[m], t))
            token[m, t] = a
            logp_old[m, t] = theta[u, a] - log_total[u]
            x = forest.onto[node[m], a]
            if x < N:
                node[m] = x
                going = True
            else:
                reward[m] = forest.reward[x - N]
                node[m] = -1
    return going


@kernel
def draw(forest, table, work, r, step_key, every_row):
    """Draws all groups of one outer step; afterwards work.theta[r] = work.start[r] = the visited rows of `table`.

    `every_row` lists the rows that get a slot in any case, in this order.
    """
    B, M, T = work.slot.shape[1:]
    P, U = work.prompt.shape[2], work.row.shape[1]
    G = M // P
    slot_of, row = work.slot_of[r], work.row[r]
    for u in range(work.count[r]):
        slot_of[row[u]] = -1
    for u in range(every_row.size):
        row[u] = every_row[u]
        slot_of[every_row[u]] = u
    work.count[r] = every_row.size
    slots = np.arange(U)
    copy_rows(
        table, row, slots[: every_row.size], work.theta[r], work.pi[r], work.log_total[r], work.scratch[r]
    )
    first_visit, keys, node = np.full(U, -1), np.empty(M, dtype=np.int64), np.empty(M, dtype=np.int64)
    for b in range(B):
        work.used_count[r, b] = 0
        for p in range(P):
            # Negative numbers of responses belong to the prompts.
            group = b * P + p
            q = prompt_of(forest.weight, uniform(child_key(step_key, -1 - group), 0))
            work.prompt[r, b, p] = q
            for g in range(G):
                node[p * G + g] = forest.root[q]
                keys[p * G + g] = child_key(step_key, group * G + g)
        going = True
        for t in range(T):
            if going:
                going = draw_depth(forest, node, keys, t, b, work, r, table, first_visit, slots)
            else:
                for m in range(M):
                    work.slot[r, b, m, t] = -1
                    work.logp_old[r, b, m, t] = 0.0
    for u in range(work.count[r]):
        for a in range(table.shape[1]):
            work.start[r, u, a] = work.theta[r, u, a]
            work.pi_start[r, u, a] = work.pi[r, u, a]


@kernel
def gather(theta, log_total, slot, token, logp):
    """logp[m, t] = log pi_theta(token[m, t]); 0 at padding."""
    for m in range(slot.shape[0]):
        for t in range(slot.shape[1]):
            u = slot[m, t]
            logp[m, t] = theta[u, token[m, t]] - log_total[u] if u >= 0 else 0.0
