"""Prompt and every prefix of an answer as one row: each prefix sees the prompt, its ancestors and itself.

    token of prefix (a_1, .., a_n): a_n    position: L - 1 + n    sees: prompt, (a_1), (a_1, a_2), .., itself

The hidden state at that token is the one that plain rows have after prompt and prefix, since rotary
positions and causal attention know nothing else; the last prompt token stands for the empty prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TreeRow:
    """The inputs of one forward pass; W = L + S - 1 tokens."""

    ids: Int[Tensor, " W"]
    position: Int[Tensor, " W"]
    sees: Bool[Tensor, "W W"]
    """sees[i, j]: token i attends to token j."""
    state: Int[Tensor, " S"]
    """The token whose hidden state gives the logits of row i of the table."""

    @classmethod
    def of(cls, prompt: Sequence[int], prefixes: Sequence[tuple[int, ...]]) -> "TreeRow":
        """`prefixes` as `Answers.prefixes` lists them: the empty one first, every parent before its children.

        Raises ValueError for an empty prompt, after which nothing could be predicted.
        """
        L = len(prompt)
        if L == 0:
            raise ValueError("the prompt is empty: give at least one token, for instance the BOS token")
        place = {prefix: L - 1 + n for n, prefix in enumerate(prefixes)}
        W = L + len(prefixes) - 1
        sees = torch.zeros(W, W, dtype=torch.bool)
        sees[:, :L] = True
        sees[:L, :L] = torch.ones(L, L, dtype=torch.bool).tril()
        for prefix in prefixes[1:]:
            for n in range(1, len(prefix) + 1):
                sees[place[prefix], place[prefix[:n]]] = True
        return cls(
            torch.tensor([*prompt, *(prefix[-1] for prefix in prefixes[1:])]),
            torch.tensor([*range(L), *(L - 1 + len(prefix) for prefix in prefixes[1:])]),
            sees,
            torch.arange(L - 1, W),
        )
