"""The named worlds of the experiments: token MDPs small enough to be solved exactly, each with its reason.

`WORLDS[name].build()` is the world and `WORLDS[name].theta_old(mdp)` the policy that an experiment starts
from. Both are the same on every machine: formulas, or a named random stream. Every row of theta_old gives
every token a positive probability, and grad J(theta_old) is not zero. EOS is the last token where there is
one.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.stats.rng import stream
from ticgrpo_theory.worlds.mdp import TokenMDP

Start = Callable[[TokenMDP], Tensor]


@dataclass(frozen=True)
class World:
    """A world that an experiment names, and theta_old = theta_old(build()) [S, V], from which it starts.

    Ours; no paper has these worlds. A name that WORLDS does not have raises ValueError with the nearest ones.
    """

    build: Callable[[], TokenMDP]
    """Makes the world; its docstring says what is rewarded and why the world exists."""
    theta_old: Start
    """Logits [S, V] of the policy that the groups are drawn from."""

    @property
    def name(self) -> str:
        """As WORLDS and the command line have it."""
        return self.build.__name__.replace("_", "-")

    @property
    def reason(self) -> str:
        """Why the world exists: the docstring of its function."""
        return " ".join((self.build.__doc__ or "").split())


def graded(mdp: TokenMDP) -> Float[Tensor, "S V"]:
    """theta[s, a] = 0.1 ((3 s + 5 a) mod 7) - 0.3: no two tokens alike, no probability near 0 or 1."""
    s, a = np.arange(mdp.num_rows)[:, None], np.arange(mdp.vocab_size)
    return torch.from_numpy(0.1 * ((3 * s + 5 * a) % 7) - 0.3)


def first_token(probability: float) -> Start:
    """One row, two tokens: theta = (d/2, -d/2), d = log(p / (1 - p)), so that pi(0) = p."""

    def theta_old(mdp: TokenMDP) -> Float[Tensor, "1 2"]:
        half = math.log(probability / (1 - probability)) / 2
        return torch.tensor([[half, -half]], dtype=torch.float64)

    return theta_old


def bandit() -> TokenMDP:
    """One of four tokens is right, T = 1. Token, prefix, trajectory and geometric-mean ratio are the same
    number here, so whatever separates two estimators is their clip, advantage or scale."""
    return TokenMDP.prefix_tree(vocab_size=4, horizon=1, reward=[0.0, 0.0, 1.0, 0.0])


def xor() -> TokenMDP:
    """Two tokens from one shared row, right when they differ: J = 2 p (1 - p). The smallest world with an
    optimum inside the simplex, where the noise of an estimator never dies; it has one direction only."""
    return shared_row(2, lambda a, b: a != b)


def right_answer() -> TokenMDP:
    """One right answer among 27: the sparse reward of a verifiable question, early in training."""
    return TokenMDP.prefix_tree(vocab_size=3, horizon=3, reward=lambda y: float(y == (0, 1, 2)))


def few_values() -> TokenMDP:
    """Random rewards 0, 1/2 or 1 on a tree of 27 responses. Group normalisation is biased as soon as there
    are three reward values, already at theta = theta_old, and the bias falls with G."""
    drawn = torch.randint(0, 3, (27,), generator=stream(0, "worlds", "few-values"))
    return TokenMDP.prefix_tree(vocab_size=3, horizon=3, reward=drawn.double() / 2)


def distinct_values() -> TokenMDP:
    """Random rewards, all different, on a tree of 8 responses: what a reward model gives instead of a
    verifier. No symmetry and no ties; the conditional expectations of A run over eight reward values."""
    drawn = torch.rand(8, generator=stream(0, "worlds", "distinct-values"), dtype=torch.float64)
    return TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=drawn)


def count_mod_3() -> TokenMDP:
    """Right when the number of tokens 0 among ten is 2 modulo 3; logits depend on that count, not on time.
    A finite-state reward at a longer horizon with rows that serve many times."""
    return TokenMDP.automaton(
        [[1, 0], [2, 1], [0, 2]], vocab_size=2, horizon=10, reward=[0.0, 0.0, 1.0], rows="state"
    )


def bigram() -> TokenMDP:
    """Five of three tokens, right when no token repeats the one before it and the last is 0. The policy
    sees only the last token (an n-gram context), so one row serves several times and cannot tell whether
    all is lost."""
    # State 0 is the start, 1 + a a faultless response ending in a, 4 + a one with a repetition.
    clean = [[1 + a if a != last else 4 + a for a in range(3)] for last in range(3)]
    transition = [[1, 2, 3], *clean, *[[4, 5, 6]] * 3]
    reward = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    return TokenMDP.automaton(transition, vocab_size=3, horizon=5, reward=reward, rows=[0, 1, 2, 3, 1, 2, 3])


def long_answers() -> TokenMDP:
    """Right when the response holds two tokens 0 before it stops; EOS is token 2, at most four tokens. Longer
    responses are right more often, so a scale of 1/length weighs right and wrong ones unequally."""
    return TokenMDP.prefix_tree(vocab_size=3, horizon=4, eos=2, reward=lambda y: float(y.count(0) >= 2))


def length_trap() -> TokenMDP:
    """Right when the length is 2; one shared row, EOS is token 1, T = 3: J = p (1 - p). With the scale
    1/length the fixed point is the root of 3 - 3 p - p^2 - 2 p^3, p = 0.66, for every G and delta, not the
    optimum 1/2. Started between them, at p = 0.6, such an estimator climbs away from the optimum."""
    return TokenMDP.automaton(
        [[0, 0]],
        vocab_size=2,
        horizon=3,
        reward=lambda state, length: float(length == 2),
        rows="state",
        eos=1,
    )


def two_prompts() -> TokenMDP:
    """An easy prompt (the last token is 0) and a hard one (one right answer of 27), as likely as each
    other, on shared rows. Dividing by each group's own standard deviation weighs the prompts anew."""
    easy = TokenMDP.prefix_tree(vocab_size=3, horizon=3, reward=lambda y: float(y[-1] == 0))
    hard = TokenMDP.prefix_tree(vocab_size=3, horizon=3, reward=lambda y: float(y == (1, 2, 0)))
    return TokenMDP.mixture([easy, hard], [0.5, 0.5], share_rows=True)


def prompt_trap() -> TokenMDP:
    """Two equally likely prompts on one shared row: right when two tokens differ, or when the first is 0. J
    is largest at p = 3/4; per-group standard deviations move the fixed point towards (3 + sqrt 3) / 6 = 0.79
    as G grows. Started between them, at p = 0.76."""
    differ = shared_row(2, lambda a, b: a != b)
    first = shared_row(2, lambda a, b: a == 0)
    return TokenMDP.mixture([differ, first], [0.5, 0.5], share_rows=True)


def shared_row(vocab_size: int, right: Callable[[int, int], bool]) -> TokenMDP:
    """Two tokens, both drawn from the one row of logits; reward 1 where right(first, second), else 0."""
    # State 0 is the start, 1 + a the first token; second tokens lead to 0 (wrong) or 1 (right).
    V = vocab_size
    second = [[int(right(a, b)) for b in range(V)] for a in range(V)]
    transition = [[list(range(1, V + 1))] + [[0] * V] * V, [[0] * V, *second]]
    return TokenMDP.automaton(
        transition, vocab_size=V, horizon=2, reward=[0.0, 1.0] + [0.0] * (V - 1), rows=[0] * (V + 1)
    )


def zeros_counted(horizon: int, right: Callable[[int], bool]) -> TokenMDP:
    """T tokens from one row of two logits; reward 1 where right(number of tokens 0), else 0."""
    transition = [[min(zeros + 1, horizon), zeros] for zeros in range(horizon + 1)]
    reward = [float(right(zeros)) for zeros in range(horizon + 1)]
    return TokenMDP.automaton(
        transition, vocab_size=2, horizon=horizon, reward=reward, rows=[0] * (horizon + 1)
    )


def majority(horizon: int) -> TokenMDP:
    """Right when at least half of T tokens are 0: a reward that many responses share."""
    return zeros_counted(horizon, lambda zeros: zeros >= horizon / 2)


def all_ones(horizon: int) -> TokenMDP:
    """Right when no token is 0: one response of 2**T, which a policy that drifts to token 0 leaves behind."""
    return zeros_counted(horizon, lambda zeros: zeros == 0)


def parity(horizon: int) -> TokenMDP:
    """Right when the number of tokens 0 is even: w' is as large where A < 0 as where A > 0."""
    return zeros_counted(horizon, lambda zeros: zeros % 2 == 0)


class Worlds(dict[str, World]):
    """A dict whose missing names are answered with the nearest ones."""

    def __missing__(self, name: str) -> World:
        if not isinstance(name, str):
            raise ValueError(f"unknown world {name!r}: names are strings, as in WORLDS['xor']")
        near = difflib.get_close_matches(name, self, n=3, cutoff=0.4) or sorted(self)
        raise ValueError(f"unknown world {name!r}; nearest names: {', '.join(near)}")


LISTED = (
    World(bandit, graded),
    World(xor, first_token(0.7)),
    World(right_answer, graded),
    World(few_values, graded),
    World(distinct_values, graded),
    World(count_mod_3, graded),
    World(bigram, graded),
    World(long_answers, graded),
    World(length_trap, first_token(0.6)),
    World(two_prompts, graded),
    World(prompt_trap, first_token(0.76)),
)

WORLDS = Worlds({world.name: world for world in LISTED})
