"""Hypothesis strategies: worlds small enough to be enumerated, and groups of responses.

Every number is a multiple of 1/8 (probabilities of prompts of 1/4), so that counterexamples shrink to cases
that can be done by hand. A drawn world comes twice, built by two separate routes: as a `TokenMDP`, and as the
oracle's list of responses, whose rows and rewards are found by walking through the definition token by token.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product

import torch
from hypothesis import strategies as st

from tests.oracles.definitions import World, path_world, tree_world
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.mdp import TokenMDP

Matrix = list[list[float]]
Member = tuple[list[float], list[float], float]


def eighths(low: float, high: float) -> st.SearchStrategy[float]:
    """Multiples of 1/8 in [low, high]."""
    return st.integers(round(8 * low), round(8 * high)).map(lambda n: n / 8)


def tables(num_rows: int, vocab_size: int) -> st.SearchStrategy[Matrix]:
    """Logits [S, V] in [-2, 2]."""
    row = st.lists(eighths(-2, 2), min_size=vocab_size, max_size=vocab_size)
    return st.lists(row, min_size=num_rows, max_size=num_rows)


def sizes(largest: int, longest: int = 4) -> st.SearchStrategy[tuple[int, int]]:
    """(V, T) with V <= 4, T <= longest and at most `largest` responses, the small ones first."""
    every = [(V, T) for V, T in product(range(1, 5), range(1, longest + 1)) if V**T <= largest]
    return st.sampled_from(sorted(every, key=lambda size: (size[0] ** size[1], size)))


@dataclass(frozen=True)
class Definition:
    """One world as the oracle's (weight, World) of each prompt, and how to build it as a TokenMDP.

    Built by the test and not while drawing: beartype picks items at random, which strategies must not do.
    """

    build: Callable[[], TokenMDP] = field(repr=False)
    prompts: list[tuple[float, World]]
    num_rows: int

    @cached_property
    def mdp(self) -> TokenMDP:
        return self.build()

    @property
    def world(self) -> World:
        """The world of a single prompt."""
        ((_, world),) = self.prompts
        return world


@dataclass(frozen=True)
class Case:
    """A world and two policies."""

    definition: Definition
    theta: Matrix
    theta_old: Matrix

    @property
    def mdp(self) -> TokenMDP:
        return self.definition.mdp

    @property
    def prompts(self) -> list[tuple[float, World]]:
        return self.definition.prompts


def single(build: Callable[[], TokenMDP], world: World, num_rows: int) -> Definition:
    """A world of one prompt; rows that no response reads are in its table all the same."""
    return Definition(build, [(1.0, dataclasses.replace(world, num_rows=num_rows))], num_rows)


@st.composite
def trees(draw, V: int, T: int) -> Definition:
    """A prefix tree, with an EOS token or without; up to three reward values, so that groups have ties."""
    eos = draw(st.none() | st.integers(0, V - 1))
    values = draw(st.lists(eighths(-1, 1), min_size=1, max_size=3))
    blank = tree_world(V, T, lambda tokens: 0.0, eos)
    picks = st.lists(st.sampled_from(values), min_size=len(blank.responses), max_size=len(blank.responses))
    rewards = dict(zip([tokens for tokens, _, _ in blank.responses], draw(picks), strict=True))
    world = tree_world(V, T, rewards.__getitem__, eos)
    build = partial(TokenMDP.prefix_tree, vocab_size=V, horizon=T, reward=rewards.__getitem__, eos=eos)
    return single(build, world, world.num_rows)


@st.composite
def automata(draw, V: int, T: int) -> Definition:
    """Up to three states, transitions fixed or by time, rows of every kind, reward by state (and length)."""
    Q = draw(st.integers(1, 3))
    state = st.integers(0, Q - 1)
    moves = st.lists(st.lists(state, min_size=V, max_size=V), min_size=Q, max_size=Q)
    by_time = draw(st.booleans())
    transition = draw(st.lists(moves, min_size=T, max_size=T) if by_time else moves)
    start, eos = draw(state), draw(st.none() | st.integers(0, V - 1))
    by_state = st.lists(st.integers(0, 2), min_size=Q, max_size=Q)
    by_both = st.lists(by_state, min_size=T, max_size=T)
    rows = draw(st.sampled_from(["state", "time_state", [0] * Q]) | by_state | by_both)
    values = draw(st.lists(eighths(-1, 1), min_size=Q, max_size=Q))
    per_token = draw(st.sampled_from([0.0, 0.125]))
    reward = values if per_token == 0 else lambda q, length: values[q] + per_token * length

    def state_after(tokens: tuple[int, ...]) -> int:
        q = start
        for t, a in enumerate(tokens):
            q = transition[t][q][a] if by_time else transition[q][a]
        return q

    def row(t: int, q: int) -> int:
        if rows == "state":
            return q
        if rows == "time_state":
            return t * Q + q
        return rows[t][q] if isinstance(rows[0], list) else rows[q]

    def row_of(prefix: tuple[int, ...]) -> int:
        return row(len(prefix), state_after(prefix))

    world = path_world(V, T, row_of, lambda y: values[state_after(y)] + per_token * len(y), eos)
    build = partial(TokenMDP.automaton, transition, V, T, reward, start=start, rows=rows, eos=eos)
    return single(build, world, 1 + max(row(t, q) for t in range(T) for q in range(Q)))


def shifted(world: World, offset: int) -> World:
    """The same world with rows `offset` further down the table."""
    moved = [(tokens, tuple(s + offset for s in rows), r) for tokens, rows, r in world.responses]
    return dataclasses.replace(world, responses=moved)


@st.composite
def two_prompts(draw, V: int, T: int) -> Definition:
    """Two trees or automata, the second perhaps shorter, on separate rows or, if equal in number, shared."""
    shorter = draw(st.integers(1, T))
    first = draw(trees(V, T) | automata(V, T))
    second = draw(trees(V, shorter) | automata(V, shorter))
    share = first.num_rows == second.num_rows and draw(st.booleans())
    weight = draw(st.sampled_from([0.5, 0.25, 0.75]))
    num_rows = first.num_rows if share else first.num_rows + second.num_rows
    # The response limit is that of the whole world.
    whole = {"num_rows": num_rows, "horizon": T}
    placed = [first.world, second.world if share else shifted(second.world, first.num_rows)]
    prompts = [dataclasses.replace(world, **whole) for world in placed]

    def build() -> TokenMDP:
        return TokenMDP.mixture([first.mdp, second.mdp], [weight, 1 - weight], share_rows=share)

    return Definition(build, list(zip([weight, 1 - weight], prompts, strict=True)), num_rows)


def worlds(largest: int, longest: int = 4) -> st.SearchStrategy[Definition]:
    """A tree, an automaton, or two of them as two prompts, of at most `largest` responses each."""
    return sizes(largest, longest).flatmap(lambda size: trees(*size) | automata(*size) | two_prompts(*size))


@st.composite
def mdps_with_two_policies(draw, largest: int = 16, longest: int = 4) -> Case:
    """A world, theta and theta_old."""
    definition = draw(worlds(largest, longest))
    vocab_size = definition.prompts[0][1].vocab_size
    theta, theta_old = (draw(tables(definition.num_rows, vocab_size)) for _ in range(2))
    return Case(definition, theta, theta_old)


@st.composite
def mdps_with_masked_tokens(draw, largest: int = 16) -> Case:
    """As above, some tokens impossible (-inf) under theta alone or under both; every row keeps one token."""
    case = draw(mdps_with_two_policies(largest))
    for row, row_old in zip(case.theta, case.theta_old, strict=True):
        kept = draw(st.integers(0, len(row) - 1))
        for a in range(len(row)):
            masked = draw(st.sampled_from(["nowhere", "theta", "both"])) if a != kept else "nowhere"
            if masked != "nowhere":
                row[a] = -math.inf
            if masked == "both":
                row_old[a] = -math.inf
    return case


@dataclass(frozen=True)
class GroupCase:
    """One group as the oracle's (logp, logp_old, reward) lists, and as a padded Batch with NaN at padding."""

    members: list[Member]
    horizon: int
    extra: int

    @property
    def batch(self) -> Batch:
        return padded(self.members, self.horizon, self.extra)


def padded(members: list[Member], horizon: int, extra: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    """The Batch of these responses, `extra` columns wider than the longest, NaN at padding.

    Where a drawn log-probability is above 0, both policies are less sure of all tokens by one factor.
    """
    width = max(len(logp) for logp, _, _ in members) + extra
    finite = [x for member in members for x in (*member[0], *member[1]) if math.isfinite(x)]
    above = max(0.0, *finite)

    def table(column: int) -> torch.Tensor:
        rows = [member[column] + [math.nan] * (width - len(member[column])) for member in members]
        return torch.tensor(rows, dtype=dtype) - above

    mask = torch.tensor([[t < len(logp) for t in range(width)] for logp, _, _ in members])
    reward = torch.tensor([member[2] for member in members], dtype=dtype)
    return Batch(table(0), table(1), reward, mask, horizon=horizon)


def ragged(table: torch.Tensor, mask: torch.Tensor) -> Matrix:
    """[G, T] to lists of the lengths of the responses."""
    return [row[keep].tolist() for row, keep in zip(table, mask, strict=True)]


@st.composite
def groups(draw, min_size: int = 1, max_size: int = 4) -> GroupCase:
    """Lengths 1 to 4, log-ratios and rewards in [-1, 1], up to two columns of padding beyond the longest.

    Pooled log-ratios are multiples of 1/8, 1/16, 1/24 or 1/32, 2e-3 away from the ends of all default clips.
    """
    members = []
    for _ in range(draw(st.integers(min_size, max_size))):
        length = draw(st.integers(1, 4))
        tokens = st.lists(eighths(-1, 1), min_size=length, max_size=length)
        logp_old = draw(st.lists(eighths(-3, -1), min_size=length, max_size=length))
        logp = [x + y for x, y in zip(draw(tokens), logp_old, strict=True)]
        members.append((logp, logp_old, draw(eighths(-1, 1))))
    horizon = draw(st.integers(4, 6))
    return GroupCase(members, horizon, extra=draw(st.integers(0, 2)))
