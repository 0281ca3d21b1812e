"""The reference instance: a tree small enough to print, two reward vectors, two policies.

V = 2, T = 3, EOS = 1: responses (000), (001), (01), (1); logits rows (), (0), (00).
"""

from ticgrpo_theory.mdp import TokenMDP

OLD = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
THETA = [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]
BINARY, TERNARY = (
    TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=reward, eos=1)
    for reward in ([1.0, 0.0, 0.0, 1.0], [1.0, 0.3, 0.0, 1.0])
)
