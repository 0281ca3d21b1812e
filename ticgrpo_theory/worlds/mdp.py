"""Token MDPs: prompts, the layered graph that each one unrolls, and a table of logits that they read.

    J(theta) = sum_q weight_q E[r(s_T)],   a[t] ~ softmax(theta[row(s[t-1])])

Source: arXiv:2508.02833 v2, Sec. 2.1, with a deterministic next state (the next token is appended).
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from ticgrpo_theory.inputs.numbers import shown, switch
from ticgrpo_theory.worlds import tables
from ticgrpo_theory.worlds.graph import MAX_PATHS, Graph, Tree
from ticgrpo_theory.worlds.limits import check_nodes
from ticgrpo_theory.worlds.tables import MAX_RESPONSES as MAX_RESPONSES


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
        not finite or not one for each response, and a reward function that raises, with the response.
        """
        V, T, eos = tables.checked_sizes(vocab_size, horizon, eos)
        count = tables.responses_of_tree(V, T, eos)
        if callable(reward):
            if count > MAX_PATHS:
                raise ValueError(
                    f"a reward function would be called for {count:,} responses, more than MAX_PATHS = "
                    f"{MAX_PATHS:,}; give the rewards as a tensor in the order of mdp.responses"
                )
            blank = Tree(V, T, eos, np.zeros(count))
            bare = cls(vocab_size=V, horizon=T, num_rows=1, graphs=[blank])
            reward = tables.called(reward, ((response,) for response in bare.responses))
        found = tables.rewards(reward, count, "one for each response, in the order of mdp.responses")
        tree = Tree(V, T, eos, found)
        return cls(vocab_size=V, horizon=T, num_rows=int(tree.node_start[-1]), graphs=[tree])

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
        V, T, eos = tables.checked_sizes(vocab_size, horizon, eos)
        moves = tables.moves_of(transition, V, T)
        Q, first = moves.shape[-2], tables.checked_start(moves, start)
        check_nodes(Q, T, Q * (T * (eos is not None) + 1) if callable(reward) else 0)
        moves = np.ascontiguousarray(moves, dtype=np.int32).copy()
        if eos is not None:
            moves[..., eos] = -1 - moves[..., eos]
        lengths = np.repeat(np.arange(1, T + 1), Q) if eos is not None else np.empty(0, dtype=np.int64)
        lengths = np.concatenate([lengths, np.full(Q, T)])
        states = np.tile(np.arange(Q), lengths.size // Q)
        if callable(reward):
            values = tables.called(reward, zip(states.tolist(), lengths.tolist(), strict=True))
        else:
            values = tables.rewards(reward, Q, "one for each state")[states]
        row = tables.rows_of(rows, T, Q)
        graph = Graph(
            vocab_size=V,
            horizon=T,
            node_start=np.arange(T + 1) * Q,
            row=row.reshape(-1),
            successor_start=np.arange(T) * Q if len(moves) > 1 else np.zeros(T, np.int64),
            successor=moves.reshape(-1, V),
            ended_start=np.arange(T) * Q,
            final_start=lengths.size - Q,
            reward=values,
            length=lengths,
            start=first,
        )
        return cls(vocab_size=V, horizon=T, num_rows=int(row.max()) + 1, graphs=[graph])

    @classmethod
    def mixture(cls, mdps: Sequence["TokenMDP"], weights: ArrayLike, *, share_rows: bool) -> "TokenMDP":
        """Several prompts: J = sum_q weight_q J_q. A group belongs to one; advantages never mix prompts.

        share_rows=True: all read the same table (equal num_rows needed); False: each has rows of its own,
        stacked in order. Raises ValueError for weights that are not probabilities and for unequal
        vocabularies or rows.
        """
        shared = switch("share_rows", share_rows, "prompts read one table", "each has rows of its own")
        if isinstance(mdps, TokenMDP):
            raise ValueError(f"mdps = {shown(mdps)}: give a list of worlds, one for each prompt")
        for index, mdp in enumerate(mdps):
            check_mdp(f"prompt {index}", mdp)
        q = tables.checked_weights(weights, len(mdps))
        sizes = {mdp.vocab_size for mdp in mdps}
        counts = [mdp.num_rows for mdp in mdps]
        if len(sizes) > 1 or (shared and len(set(counts)) > 1):
            raise ValueError(
                f"prompts with vocabularies {sorted(sizes)} and {counts} logits rows cannot be mixed with "
                f"share_rows={share_rows}: one vocabulary is needed, and equal row counts to share rows"
            )
        graphs, flat = [], []
        for index, (weight, mdp) in enumerate(zip(q.tolist(), mdps, strict=True)):
            offset = 0 if shared else sum(counts[:index])
            for inner, graph in zip(mdp._weights, mdp._graphs, strict=True):
                graphs.append(graph if offset == 0 else graph.with_rows(np.arange(mdp.num_rows) + offset))
                flat.append(weight * inner)
        return cls(
            vocab_size=mdps[0].vocab_size,
            horizon=max(mdp.horizon for mdp in mdps),
            num_rows=counts[0] if shared else sum(counts),
            graphs=graphs,
            weights=flat,
        )


def check_mdp(name: str, mdp: object) -> None:
    """Raise ValueError for what is no world: its name, or a World that was not built, are taken for one."""
    if not isinstance(mdp, TokenMDP):
        build = "WORLDS['xor'].build()" if not hasattr(mdp, "build") else "its .build()"
        raise ValueError(
            f"{name} = {shown(mdp)} is no TokenMDP: give {build} of ticgrpo_theory.worlds, or a world of "
            f"TokenMDP.prefix_tree, .automaton or .mixture"
        )
