"""Worlds so small that every group of theirs is listed in no time, and the policies that they start from.

Rows of logits are logarithms of simple fractions, so that a witness can be worked out with a pencil.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.worlds.mdp import TokenMDP

F = Fraction


@dataclass(frozen=True)
class LittleWorld:
    """A world, and the probabilities of each of its rows under the policy that it starts from."""

    name: str
    mdp: TokenMDP
    rows: tuple[tuple[Fraction, ...], ...]
    reward: tuple[float, ...] = ()
    """Of each response, in lexicographic order."""
    letters: str = "abc"
    """What tokens are called in a witness."""
    parts: tuple["LittleWorld", ...] = ()
    """Of a mixture its prompts, equally likely, whose rows follow one another."""

    @cached_property
    def theta(self) -> Float[Tensor, "S V"]:
        """log of the rows: the policy that groups are drawn from."""
        return torch.tensor([[float(p) for p in row] for row in self.rows], dtype=torch.float64).log()

    @cached_property
    def gradient(self) -> Float[Tensor, "S V"]:
        """grad J at that policy."""
        return policy_gradient(self.mdp, self.theta)

    def drifted(self, size: float) -> Float[Tensor, "S V"]:
        """theta moved by `size` along grad J / ||grad J||, and half as much along another direction."""
        up = self.gradient / self.gradient.norm()
        other = torch.sin(torch.arange(1, up.numel() + 1, dtype=torch.float64)).reshape(up.shape)
        return self.theta + size * (up + 0.5 * other / other.norm())


HALVES = (F(1, 2), F(1, 2))


def tree(
    name: str, V: int, T: int, reward: Sequence[float], rows: Sequence[tuple[Fraction, ...]]
) -> LittleWorld:
    """All V**T responses of one length, rewards in lexicographic order."""
    mdp = TokenMDP.prefix_tree(vocab_size=V, horizon=T, reward=list(reward))
    return LittleWorld(name, mdp, tuple(rows), tuple(reward))


def stopping(name: str, T: int, reward: Sequence[float], rows: Sequence[tuple[Fraction, ...]]) -> LittleWorld:
    """Two tokens, the second of them ends the response: a..a, ..., ab, b in lexicographic order."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=T, reward=list(reward), eos=1)
    return LittleWorld(name, mdp, tuple(rows), tuple(reward), letters="a.")


def mixed(name: str, first: LittleWorld, second: LittleWorld) -> LittleWorld:
    """Two equally likely prompts with rows of their own."""
    mdp = TokenMDP.mixture([first.mdp, second.mdp], [0.5, 0.5], share_rows=False)
    rows = (*first.rows, *second.rows)
    return LittleWorld(name, mdp, rows, letters=first.letters, parts=(first, second))


ONE_LENGTH = (
    tree("three tokens, one step", 3, 1, [0.0, 1.0, 3.0], [(F(1, 2), F(1, 4), F(1, 4))]),
    tree(
        "two tokens, two steps", 2, 2, [0.0, 0.5, 2.0, 1.0], [(F(1, 4), F(3, 4)), HALVES, (F(2, 3), F(1, 3))]
    ),
    tree("three tokens, one below 0", 3, 1, [-1.0, 0.25, 1.0], [(F(1, 4), F(1, 4), F(1, 2))]),
)
ANY_LENGTH = (
    stopping("two lengths", 2, [0.0, 1.0, 3.0], [HALVES, (F(1, 4), F(3, 4))]),
    stopping("three lengths", 3, [0.0, 2.0, 0.5, 1.0], [(F(3, 4), F(1, 4)), HALVES, (F(2, 3), F(1, 3))]),
)
PROMPTS = (
    mixed(
        "an easy and a hard prompt",
        tree("easy", 3, 1, [1.0, 1.0, 0.0], [(F(1, 2), F(1, 4), F(1, 4))]),
        tree("hard", 3, 1, [0.0, 0.0, 1.0], [(F(1, 2), F(3, 8), F(1, 8))]),
    ),
)
