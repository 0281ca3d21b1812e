"""Responses that are drawn token by token, where there are too many to be listed."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.worlds.graph import Graph, Paths


def drawn_paths(graph: Graph, policy: Float[Tensor, "S V"], count: int, generator: torch.Generator) -> Paths:
    """`count` responses of the policy with these logits [S, V], one after the other."""
    prob = torch.softmax(policy, dim=-1)
    tokens, rows = (np.zeros((count, graph.horizon), dtype=np.int64) for _ in range(2))
    mask, outcome = np.zeros((count, graph.horizon), dtype=np.bool_), np.zeros(count, dtype=np.int64)
    alive, node = np.arange(count), np.full(count, graph.start)
    for t in range(graph.horizon):
        if alive.size == 0:
            break
        row, successor = graph.table(t)
        here = row[node]
        chosen = torch.multinomial(prob[torch.from_numpy(here)], 1, generator=generator)[:, 0].numpy()
        tokens[alive, t], rows[alive, t], mask[alive, t] = chosen, here, True
        following = successor[node, chosen].astype(np.int64)
        ended = following < 0
        outcome[alive[ended]] = graph.ended_start[t] - 1 - following[ended]
        alive, node = alive[~ended], following[~ended]
    outcome[alive] = graph.final_start + node
    return Paths(tokens, rows, mask, outcome)


def drawn_responses(
    graph: Graph, policies: enumeration.Policies, count: int, generator: torch.Generator
) -> enumeration.Responses:
    """The same as all the policies see them, 0 behind them."""
    return enumeration.seen(drawn_paths(graph, policies.drawn_from, count, generator), graph, policies)
