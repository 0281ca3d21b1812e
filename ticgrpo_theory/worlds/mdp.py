"""Token MDPs: prompts, the layered graph that each one unrolls, and a table of logits that they read.

    J(theta) = sum_q weight_q E[r(s_T)],   a[t] ~ softmax(theta[row(s[t-1])])

Source: arXiv:2508.02833 v2, Sec. 2.1, with a deterministic next state (the next token is appended).
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds.graph import MAX_PATHS, Graph, Tree
from ticgrpo_theory.worlds.limits import check_levels, check_nodes, check_sizes

MAX_RESPONSES = 2**25
"""Largest prefix tree, in responses: its rewards alone take 8 bytes each."""


class TokenMDP:
    """One or several prompts over one table of logits [S, V]: J(theta) = sum_q weight_q E_theta[r(s_T)].

    `prompts` lists (weight, single-prompt TokenMDP); a group of responses belongs to one prompt. `graph` is
    the layered graph of a single prompt. `horizon` T is the response limit, `num_rows` S, `vocab_size` V.
    Made by `prefix_tree`, `automaton` and `mixture`, which raise ValueError for bad input.
    Source: arXiv:2508.02833 v2, Sec. 2.1.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        horizon: int,
        num_rows: int,
        graphs: Sequence[Graph],
        weights: Sequence[float] = (1.0,),
    ) -> None:
        self.vocab_size, self.horizon, self.num_rows = vocab_size, horizon, num_rows
        self._graphs: tuple[Graph, ...] = tuple(graphs)
        self._weights = tuple(weights)

    @property
    def prompts(self) -> tuple[tuple[float, "TokenMDP"], ...]:
        """(weight, world of that prompt alone) for each prompt; the weights add up to 1."""
        if len(self._graphs) == 1:
            return ((1.0, self),)
        V, T, S = self.vocab_size, self.horizon, self.num_rows
        singles = (TokenMDP(vocab_size=V, horizon=T, num_rows=S, graphs=[graph]) for graph in self._graphs)
        return tuple(zip(self._weights, singles, strict=True))

    @property
    def graph(self) -> Graph:
        """States, continuations and rewards of the only prompt. Raises ValueError where there are several."""
        if len(self._graphs) != 1:
            raise ValueError(
                f"this world has {len(self._graphs)} prompts, each with its own responses: "
                f"read them one by one from mdp.prompts, a tuple of (weight, single-prompt TokenMDP)"
            )
        return self._graphs[0]

    @property
    def digest(self) -> str:
        """One word for the content: the same for worlds of equal tables, another where a reward differs."""
        prompts = [(weight, prompt.graph.digest) for weight, prompt in self.prompts]
        described = repr((self.vocab_size, self.horizon, self.num_rows, prompts))
        return hashlib.sha256(described.encode()).hexdigest()

    @property
    def responses(self) -> list[tuple[int, ...]]:
        """Every response as a tuple of tokens, lexicographic depth first."""
        paths = self.graph.paths
        return [
            tuple(tokens[:n]) for tokens, n in zip(paths.tokens.tolist(), paths.mask.sum(axis=1), strict=True)
        ]

    @property
    def prefixes(self) -> list[tuple[int, ...]]:
        """Prefix trees: the prefix that row i of a table belongs to, breadth first, then lexicographic.

        Raises ValueError for an automaton, whose rows serve many prefixes, and for several prompts.
        """
        tree = self.graph
        if not isinstance(tree, Tree):
            raise ValueError(
                "only a prefix tree has one logits row for each prefix; an automaton shares its rows"
            )
        kept = [a for a in range(self.vocab_size) if a != tree.eos]
        return [prefix for t in range(self.horizon) for prefix in product(kept, repeat=t)]

    @cached_property
    def max_visits(self) -> int:
        """nu: the largest number of times that one response reads one logits row; 1 on a prefix tree."""
        return max(graph.max_visits(self.num_rows) for graph in self._graphs)

    @classmethod
    def prefix_tree(
        cls,
        *,
        vocab_size: int,
        horizon: int,
        reward: Callable[[tuple[int, ...]], float] | ArrayLike,
        eos: int | None = None,
    ) -> "TokenMDP":
        """One logits row for each prefix that can be continued.

        `reward` is f(tuple of Python ints, EOS included), called once for each response, or one number for
        each response in the order of `responses`. With `eos` a response ends at that token, else at T.
        Raises ValueError for V < 1, T < 1, EOS outside the vocabulary, too many responses, rewards that are
        not finite or not one for each response.
        """
        check_sizes(vocab_size, horizon, eos)
        check_levels(horizon)
        fanout = vocab_size - (eos is not None)
        # The count itself may have thousands of digits, so it is not computed beyond 64 bits.
        count = MAX_RESPONSES + 1
        if horizon * max(fanout - 1, 0).bit_length() < 64:
            ended = horizon if fanout == 1 else (fanout**horizon - 1) // (fanout - 1)
            count = fanout**horizon + (ended if eos is not None else 0)
        if count > MAX_RESPONSES:
            raise ValueError(
                f"a prefix tree with V = {vocab_size}, T = {horizon} has {fanout}**{horizon} responses of "
                f"full length and more than MAX_RESPONSES = {MAX_RESPONSES:,} in all; lower V or T, or "
                f"describe the reward by an automaton (TokenMDP.automaton), whose cost does not grow with "
                f"the number of responses"
            )
        if callable(reward):
            if count > MAX_PATHS:
                raise ValueError(
                    f"a reward function would be called for {count:,} responses, more than MAX_PATHS = "
                    f"{MAX_PATHS:,}; give the rewards as a tensor in the order of mdp.responses"
                )
            blank = cls(
                vocab_size=vocab_size,
                horizon=horizon,
                num_rows=1,
                graphs=[Tree(vocab_size, horizon, eos, np.zeros(count))],
            )
            reward = [float(reward(response)) for response in blank.responses]
        rewards = _rewards(reward, (count,), "one for each response, in the order of mdp.responses")
        tree = Tree(vocab_size, horizon, eos, rewards)
        return cls(vocab_size=vocab_size, horizon=horizon, num_rows=int(tree.node_start[-1]), graphs=[tree])

    @classmethod
    def automaton(
        cls,
        transition: ArrayLike,
        vocab_size: int,
        horizon: int,
        reward: Callable[[int, int], float] | ArrayLike,
        start: int = 0,
        rows: str | ArrayLike = "time_state",
        eos: int | None = None,
    ) -> "TokenMDP":
        """A finite-state world: state q reads a token a and becomes transition[q, a] (or [t, q, a]).

        `reward` is [Q] at the state after the last token, or f(state, length). `rows`: "state" (one logits
        row for each state), "time_state" (row t Q + q), or integers [Q] or [T, Q] ([0] * Q: one row for all).
        Raises ValueError as `prefix_tree` does, and for states outside 0..Q-1.
        """
        check_sizes(vocab_size, horizon, eos)
        moves = np.asarray(transition)
        if (
            moves.ndim not in (2, 3)
            or moves.size == 0
            or moves.shape[-1] != vocab_size
            or (moves.ndim == 3 and len(moves) != horizon)
        ):
            raise ValueError(
                f"transition has shape {moves.shape}; it must be [Q, V] or [T, Q, V] with T = {horizon}, "
                f"V = {vocab_size}"
            )
        Q = moves.shape[-2]
        check_nodes(Q, horizon, Q * (horizon * (eos is not None) + 1) if callable(reward) else 0)
        if (
            not np.issubdtype(moves.dtype, np.integer)
            or moves.min() < 0
            or moves.max() >= Q
            or not 0 <= start < Q
        ):
            raise ValueError(f"transition and start = {start} must be integers in 0..{Q - 1}, the {Q} states")
        moves = np.ascontiguousarray(moves if moves.ndim == 3 else moves[None], dtype=np.int32).copy()
        if eos is not None:
            moves[..., eos] = -1 - moves[..., eos]
        lengths = np.repeat(np.arange(1, horizon + 1), Q) if eos is not None else np.empty(0, dtype=np.int64)
        lengths = np.concatenate([lengths, np.full(Q, horizon)])
        states = np.tile(np.arange(Q), lengths.size // Q)
        if callable(reward):
            values = [float(reward(int(q), int(n))) for q, n in zip(states, lengths, strict=True)]
        else:
            values = _rewards(reward, (Q,), "one for each state")[states]
        row = _rows(rows, horizon, Q)
        return cls(
            vocab_size=vocab_size,
            horizon=horizon,
            num_rows=int(row.max()) + 1,
            graphs=[
                Graph(
                    vocab_size=vocab_size,
                    horizon=horizon,
                    node_start=np.arange(horizon + 1) * Q,
                    row=row.reshape(-1),
                    successor_start=np.arange(horizon) * Q if len(moves) > 1 else np.zeros(horizon, np.int64),
                    successor=moves.reshape(-1, vocab_size),
                    ended_start=np.arange(horizon) * Q,
                    final_start=lengths.size - Q,
                    reward=_rewards(values, (lengths.size,), "one for each state and length"),
                    length=lengths,
                    start=start,
                )
            ],
        )

    @classmethod
    def mixture(cls, mdps: Sequence["TokenMDP"], weights: ArrayLike, *, share_rows: bool) -> "TokenMDP":
        """Several prompts: J = sum_q weight_q J_q. A group belongs to one; advantages never mix prompts.

        share_rows=True: all read the same table (equal num_rows needed); False: each has rows of its own,
        stacked in order. Raises ValueError for weights that are not probabilities and for unequal
        vocabularies or rows.
        """
        q = np.asarray(weights, dtype=np.float64)
        if not mdps or q.shape != (len(mdps),) or not (q > 0).all() or abs(q.sum() - 1) > ROUNDING:
            raise ValueError(
                f"weights = {q.tolist()} for {len(mdps)} prompts: give one positive weight for each prompt, "
                f"adding to 1 (divide by their sum)"
            )
        sizes = {mdp.vocab_size for mdp in mdps}
        counts = [mdp.num_rows for mdp in mdps]
        if len(sizes) > 1 or (share_rows and len(set(counts)) > 1):
            raise ValueError(
                f"prompts with vocabularies {sorted(sizes)} and {counts} logits rows cannot be mixed with "
                f"share_rows={share_rows}: one vocabulary is needed, and equal row counts to share rows"
            )
        graphs, flat = [], []
        for index, (weight, mdp) in enumerate(zip(q.tolist(), mdps, strict=True)):
            offset = 0 if share_rows else sum(counts[:index])
            for inner, graph in zip(mdp._weights, mdp._graphs, strict=True):
                graphs.append(graph if offset == 0 else graph.with_rows(np.arange(mdp.num_rows) + offset))
                flat.append(weight * inner)
        return cls(
            vocab_size=mdps[0].vocab_size,
            horizon=max(mdp.horizon for mdp in mdps),
            num_rows=counts[0] if share_rows else sum(counts),
            graphs=graphs,
            weights=flat,
        )


def _rewards(reward: ArrayLike, shape: tuple[int, ...], meaning: str) -> NDArray[np.float64]:
    values = np.asarray(reward, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"reward has shape {values.shape}; {shape[0]:,} numbers are needed, {meaning}")
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"reward[{first}] = {values[first]} is not finite: rewards must be finite numbers")
    return values


def _rows(rows: str | ArrayLike, horizon: int, Q: int) -> NDArray[np.int64]:
    """Logits row of every (time, state) [T, Q]."""
    if isinstance(rows, str):
        named = {
            "state": np.tile(np.arange(Q), (horizon, 1)),
            "time_state": np.arange(horizon * Q).reshape(horizon, Q),
        }
        if rows not in named:
            raise ValueError(f"rows = {rows!r}: choose 'state', 'time_state', or give integers [Q] or [T, Q]")
        return named[rows]
    table = np.asarray(rows)
    if (
        table.shape not in ((Q,), (horizon, Q))
        or not np.issubdtype(table.dtype, np.integer)
        or table.min() < 0
    ):
        raise ValueError(
            f"rows has shape {table.shape} and type {table.dtype}; give 'state', 'time_state', or integers "
            f">= 0 of shape [Q] = ({Q},) or [T, Q] = ({horizon}, {Q})"
        )
    return np.broadcast_to(table, (horizon, Q)).astype(np.int64)
