"""Two equally likely prompts over one table of two rows, V = 2, T = 2, token 1 ends a response."""

import torch

from tests.oracles import whole_updates as oracle
from ticgrpo_theory.mdp import TokenMDP

REWARDS = ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0])
"""Of the responses 00, 01, 1: to the first prompt, and to the second."""

OLD = torch.tensor(oracle.OLD, dtype=torch.float64)
THETA = torch.tensor(oracle.THETA, dtype=torch.float64)


def two_prompts(weights: tuple[float, float] = (0.5, 0.5)) -> TokenMDP:
    each = [TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=r) for r in REWARDS]
    return TokenMDP.mixture(each, list(weights), share_rows=True)
