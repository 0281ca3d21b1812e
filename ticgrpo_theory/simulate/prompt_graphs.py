"""The graphs of all prompts as one list of nodes, the form in which compiled passes and tensor code read
them.

Nodes are numbered over prompts, then depths, so that every node comes before those that it leads to. Node n
reads logits row `row[n]`, and token a leads to x = onto[n, a]: node x where x < N = row.size, else the end of
the response with reward `reward[x - N]`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.worlds.graph import Graph
from ticgrpo_theory.worlds.mdp import TokenMDP

MAX_LINKS = 2**27
"""Largest number of (node, token) pairs that are laid out, 4 bytes each."""

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


class PromptGraphs(NamedTuple):
    """All prompts of a world: weight [Q] and root [Q] of each, row [N], onto [N, V], reward [outcomes]."""

    weight: Floats
    root: Ints
    row: Ints
    onto: Ints
    reward: Floats


class Tree(NamedTuple):
    """What a world of prefix trees has besides: every row belongs to one node, and has one parent row.

    Rows are listed in `order`, parents before children; `parent[s]` is the row that leads to row s (-1 at a
    root) by token `token[s]`; `node[q, s]` is the node of prompt q that reads row s, -1 if none does.
    """

    order: Ints
    parent: Ints
    token: Ints
    node: Ints


def graphs_of(mdp: TokenMDP) -> PromptGraphs:
    """The graphs of `mdp` laid out; refused, before allocating, where that takes more than MAX_LINKS."""
    graphs = [prompt.graph for _, prompt in mdp.prompts]
    links = sum(int(graph.node_start[-1]) for graph in graphs) * mdp.vocab_size
    if links > MAX_LINKS:
        raise ValueError(
            f"this world has {links:,} (node, token) pairs, more than MAX_LINKS = {MAX_LINKS:,}, the most "
            f"that a simulation lays out; lower V, T or the number of states"
        )
    first_node = np.cumsum([0, *(graph.row.size for graph in graphs)])
    first_outcome = np.cumsum([0, *(graph.reward.size for graph in graphs)]) + first_node[-1]
    return PromptGraphs(
        weight=np.array([weight for weight, _ in mdp.prompts]),
        root=first_node[:-1] + np.array([graph.start for graph in graphs]),
        row=np.concatenate([graph.row for graph in graphs]).astype(np.int32),
        onto=np.concatenate(
            [
                links_of(graph, int(node), int(outcome))
                for graph, node, outcome in zip(graphs, first_node, first_outcome, strict=False)
            ]
        ),
        reward=np.concatenate([graph.reward for graph in graphs]),
    )


def links_of(graph: Graph, first_node: int, first_outcome: int) -> Ints:
    """onto [nodes of this graph, V], its nodes and outcomes numbered from these."""
    layers = []
    for t in range(graph.horizon):
        _, successor = graph.table(t)
        last = t + 1 == graph.horizon
        alive = first_outcome + graph.final_start if last else first_node + int(graph.node_start[t + 1])
        ended = first_outcome + int(graph.ended_start[t])
        layers.append(np.where(successor >= 0, alive + successor.astype(np.int64), ended - 1 - successor))
    return np.concatenate(layers).astype(np.int32)


def tree_of(graphs: PromptGraphs, num_rows: int) -> Tree | None:
    """The parents of all rows, or None where a row serves twice or can be reached in two ways.

    Prompts may share a row where they agree on its parent and on the token that leads to it.
    """
    Q, (N, V) = len(graphs.weight), graphs.onto.shape
    parent, token, depth = (np.full(num_rows, -2, dtype=np.int64) for _ in range(3))
    node = np.full((Q, num_rows), -1, dtype=np.int64)
    for q in range(Q):
        nodes, parents, tokens, t = graphs.root[q : q + 1], np.array([-1]), np.array([-1]), 0
        while nodes.size > 0:
            rows = graphs.row[nodes]
            if np.unique(rows).size < rows.size or (node[q, rows] != -1).any():
                return None
            known = depth[rows] != -2
            if not ((parent[rows] == parents) & (token[rows] == tokens) & (depth[rows] == t))[known].all():
                return None
            parent[rows], token[rows], depth[rows], node[q, rows] = parents, tokens, t, nodes
            onto = graphs.onto[nodes].reshape(-1)
            alive = onto < N
            parents, tokens = np.repeat(rows, V)[alive], np.tile(np.arange(V), nodes.size)[alive]
            nodes, t = onto[alive], t + 1
    reached = np.flatnonzero(depth != -2)
    return Tree(reached[np.argsort(depth[reached], kind="stable")], parent, token, node)
