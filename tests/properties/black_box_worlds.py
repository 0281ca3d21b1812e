"""Random worlds of at most 27 responses, random policies, and their responses as the oracle sees them."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.oracles.by_definition import Prompt
from ticgrpo_theory.mdp import TokenMDP


@dataclass(frozen=True, eq=False)
class Setting:
    """A world in words, and three policies; theta_ref is read by divergences only."""

    name: str
    mdp: TokenMDP
    theta: Tensor
    theta_old: Tensor
    theta_ref: Tensor

    @property
    def prompts(self) -> list[Prompt]:
        return prompts_of(self.mdp)


def prompts_of(mdp: TokenMDP) -> list[Prompt]:
    """Every prompt with all its responses."""
    found = []
    for weight, prompt in mdp.prompts:
        paths, reward = prompt.graph.paths, torch.from_numpy(prompt.graph.reward)
        tables = (torch.from_numpy(table) for table in (paths.rows, paths.tokens, paths.mask))
        found.append(Prompt(weight, *tables, reward[torch.from_numpy(paths.outcome)], mdp.horizon))
    return found


def sparse(rng: random.Random, count: int) -> list[float]:
    """One right answer."""
    right = rng.randrange(count)
    return [float(n == right) for n in range(count)]


def binary(rng: random.Random, count: int) -> list[float]:
    """Half of them right."""
    return rng.sample([float(n % 2) for n in range(count)], count)


def tied(rng: random.Random, count: int) -> list[float]:
    """Three values, negative ones among them."""
    return rng.sample([(n % 3) / 2 - 0.25 for n in range(count)], count)


def distinct(rng: random.Random, count: int) -> list[float]:
    """All different."""
    return rng.sample([n / 16 for n in range(count)], count)


REWARDS = (distinct, tied, binary, sparse)


def tree(rng: random.Random, V: int, T: int, eos: int | None) -> tuple[str, TokenMDP]:
    """A prefix tree."""
    rewards = rng.choice(REWARDS)
    # Drawn for the longest list there is: its first entries are used where responses end early.
    values = iter(rewards(rng, count_of(V, T, eos)))
    mdp = TokenMDP.prefix_tree(vocab_size=V, horizon=T, reward=lambda tokens: next(values), eos=eos)
    return f"tree V={V} T={T} eos={eos} {rewards.__name__}", mdp


def automaton(rng: random.Random, V: int, T: int, eos: int | None) -> tuple[str, TokenMDP]:
    """Two or three states; rows by state, all one, or by time and state; some pay for each token."""
    Q = rng.randint(2, 3)
    # The first token leads to states that differ, so that their rewards do.
    moves = [[(q + a + rng.randrange(2)) % Q for a in range(V)] for q in range(Q)]
    moves[0] = [a % Q for a in range(V)]
    rows = rng.choice(["state", "time_state", [0] * Q])
    values = distinct(rng, Q)
    per_token = rng.choice([0.0, 0.125])
    mdp = TokenMDP.automaton(
        moves,
        V,
        T,
        lambda state, length: 8 * values[state] + per_token * length,
        rows=rows,
        eos=eos,
    )
    return f"automaton V={V} T={T} eos={eos} moves={moves} rows={rows}", mdp


def count_of(V: int, T: int, eos: int | None) -> int:
    """Number of responses of a prefix tree."""
    return V**T if eos is None else sum((V - 1) ** t for t in range(T)) + (V - 1) ** T


def table(rng: random.Random, mdp: TokenMDP, width: float) -> Tensor:
    """Logits [S, V] of so wide a normal distribution."""
    entries = [[rng.gauss(0.0, width) for _ in range(mdp.vocab_size)] for _ in range(mdp.num_rows)]
    return torch.tensor(entries, dtype=torch.float64)


def with_policies(rng: random.Random, name: str, mdp: TokenMDP, drift: float) -> Setting:
    """theta_old, theta so far from it (0: the same), and a reference."""
    theta_old = table(rng, mdp, 0.7)
    theta = theta_old + table(rng, mdp, drift)
    return Setting(f"{name} drift={drift}", mdp, theta, theta_old, theta_old + table(rng, mdp, 0.3))


SIZES = (
    (2, 1, None),
    (2, 2, 1),
    (3, 1, None),
    (2, 2, None),
    (2, 3, 0),
    (3, 2, 2),
    (2, 3, None),
    (3, 2, None),
)
"""(V, T, EOS) of 2, 3, 3, 4, 4, 7, 8 and 9 responses."""


def draw(rng: random.Random, size: tuple[int, int, int | None], drift: float) -> Setting:
    """A tree or an automaton; in one of eight draws two of them as prompts."""
    kinds = (tree, automaton)
    name, mdp = rng.choice(kinds)(rng, *size)
    if size[0] ** size[1] <= 4 and rng.random() < 0.25:
        other, second = rng.choice(kinds)(rng, size[0], 1, None)
        name, mdp = f"{name} + {other}", TokenMDP.mixture([mdp, second], [0.75, 0.25], share_rows=False)
    return with_policies(rng, name, mdp, drift)


def eight_responses(rng: random.Random, drift: float, rewards=tied) -> Setting:
    """Three tokens of two."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=rewards(rng, 8))
    return with_policies(rng, f"eight responses of one length, {rewards.__name__} rewards", mdp, drift)


def three_lengths(rng: random.Random, drift: float) -> Setting:
    """At most three tokens of three, of which 2 ends; 1 then nothing but the end, no 1 after two tokens 0.

    Eight of the fifteen responses are left; the others have probability 0 under all policies.
    """
    mdp = TokenMDP.prefix_tree(vocab_size=3, horizon=3, reward=tied(rng, 15), eos=2)
    setting = with_policies(rng, "eight responses of three lengths", mdp, drift)
    for policy in (setting.theta, setting.theta_old, setting.theta_ref):
        policy[mdp.prefixes.index((1,)), :2] = -torch.inf
        policy[mdp.prefixes.index((0, 0)), 1] = -torch.inf
    return setting


def three_responses() -> Setting:
    """One token of three; theta_old draws all alike, theta prefers the later ones."""
    mdp = TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=[1.0, 0.0, 0.5])
    theta = torch.tensor([[0.0, 0.2, 0.4]], dtype=torch.float64)
    return Setting("three responses", mdp, theta, torch.zeros_like(theta), torch.zeros_like(theta))
