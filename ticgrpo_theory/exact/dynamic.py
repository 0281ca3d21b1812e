"""Sums over all responses of a layered graph, without expanding one: forward and backward over its layers.

    d(n)       probability of visiting node n (forward)
    U(n, a)    E[value | node n, token a] (backward)
    M[s, a]    sum over nodes n of row s of d(n) c(n, a), c the expected weight of token a at n

`policy.pull_back` turns M into the gradient sum_{s,a} M[s, a] grad log pi(a | s). Cost and memory are linear in the
number of (node, token) pairs and in the table of logits. Inputs are float64 tables that `policy.logits` has checked;
-inf masks a token, whose weight is then 0.
Nothing overflows: an importance ratio enters only multiplied by the probability under theta_old.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.exact import layer_kernels as layers
from ticgrpo_theory.exact.kernels import softmax
from ticgrpo_theory.graph import Graph

Floats = NDArray[np.float64]
Bounds = tuple[float, float, float, float]


def policy(graph: Graph, logits: Floats, name: str = "logits") -> Floats:
    """pi(a | s) = softmax(logits[s])[a], a new table [S, V]."""
    rows = int(graph.row.max()) + 1
    if logits.ndim != 2 or logits.shape[0] < rows or logits.shape[1] != graph.vocab_size:
        raise ValueError(
            f"{name} has shape {logits.shape}; this graph reads {rows} rows of {graph.vocab_size} logits: "
            f"give a float64 table [S, V] with S >= {rows}, V = {graph.vocab_size}"
        )
    pi = np.empty(logits.shape)
    softmax(np.ascontiguousarray(logits, dtype=np.float64), pi)
    return pi


def visits_and_law(graph: Graph, pi: Floats) -> tuple[Floats, Floats]:
    """(d(n) of every node, probability of every outcome) under pi."""
    visits, law = np.empty(int(graph.node_start[-1])), np.zeros(graph.reward.size)
    layers.forward(layers.layers_of(graph), pi, visits, law)
    return visits, law


def outcome_law(graph: Graph, logits: Floats) -> Floats:
    """P(o), the probability of every outcome of the graph under softmax(logits)."""
    return visits_and_law(graph, policy(graph, logits))[1]


def visits(graph: Graph, logits: Floats) -> Floats:
    """d(n), the probability of visiting each node under softmax(logits); it adds to 1 over a depth without EOS."""
    return visits_and_law(graph, policy(graph, logits))[0]


def continuation(graph: Graph, pi: Floats, visits: Floats, value: Floats) -> Floats:
    """C[s, a] = sum over nodes n of row s of visits[n] E_pi[value | n, a]."""
    if value.shape != graph.reward.shape:
        raise ValueError(
            f"value has shape {value.shape}; give one number for each of the {graph.reward.size} outcomes of the graph"
        )
    C = np.empty(pi.shape)
    layers.backward(layers.layers_of(graph), pi, visits, np.ascontiguousarray(value, dtype=np.float64), C)
    return C


def value_weights(graph: Graph, logits: Floats, value: Floats) -> Floats:
    """M[s, a] = sum_n d(n) pi(a | s) E[value | n, a]; its pull-back is grad E[value]."""
    return prefix_weights(graph, logits, logits, value)


def prefix_weights(graph: Graph, theta: Floats, theta_old: Floats, value: Floats) -> Floats:
    """M[s, a] = sum_n d(n) pi_theta(a | s) E_old[value | n, a], d the visits under theta.

    The weights of E_old[value sum_t w(prefix t) grad log pi(a_t)]: the ratio of a prefix turns its probability into
    that under theta, while what follows stays with theta_old.
    """
    pi, pi_old = policy(graph, theta, "theta"), policy(graph, theta_old, "theta_old")
    d, _ = visits_and_law(graph, pi)
    return pi * continuation(graph, pi_old, d, value)


def token_weights(
    graph: Graph,
    theta: Floats,
    theta_old: Floats,
    f_plus: Floats,
    f_minus: Floats,
    bounds: Bounds,
    *,
    saturating: bool,
) -> Floats:
    """M[s, a] = sum_n d_old(n) pi_old(a | s) (c+(w) E_old[f_plus | n, a] + c-(w) E_old[f_minus | n, a]).

    w = pi_theta / pi_old of the token; c(w) = w 1{lo <= log w <= hi}, or exp(clamp(log w, lo, hi)) if `saturating`,
    with bounds = (lo, hi for A >= 0, lo, hi for A < 0) in log space. f_plus >= 0 and f_minus <= 0 are the expected
    positive and negative parts of the advantage, times the scale, given the outcome.
    """
    pi_old = policy(graph, theta_old, "theta_old")
    d, _ = visits_and_law(graph, pi_old)
    M, C_minus = (continuation(graph, pi_old, d, f) for f in (f_plus, f_minus))
    combine = layers.held_weights if saturating else layers.gated_weights
    combine(np.ascontiguousarray(theta), pi_old, tuple(float(np.exp(b)) for b in bounds), M, C_minus)
    return M
