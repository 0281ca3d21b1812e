"""The layered graph of one prompt: which logits row each position reads, and where each token leads.

Depth t = 0..T-1 has nodes; node n of depth t reads logits row `row[node_start[t] + n]`, and token a leads to

    j = successor[successor_start[t] + n, a]
    j >= 0   node j of depth t+1; at depth T that is outcome final_start + j
    j <  0   the response ends with this token: outcome ended_start[t] - 1 - j

An outcome is how a whole response ends: `reward[outcome]`, `length[outcome]` in tokens, EOS included.
Depths with the same successors share one table, so an automaton of horizon 1024 stores one [Q, V].
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MAX_PATHS = 2**22
"""Largest number of responses that are expanded token by token, N x T integers each."""

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Paths:
    """All responses, lexicographic depth first: tokens, rows, mask [N, T] (0 at padding), outcome [N]."""

    tokens: NDArray[np.int64]
    rows: NDArray[np.int64]
    mask: NDArray[np.bool_]
    outcome: NDArray[np.int64]


class Graph:
    """A layered graph whose tables are stored; `Tree` computes the same tables on demand."""

    def __init__(
        self,
        *,
        vocab_size: int,
        horizon: int,
        node_start: Ints,
        row: Ints,
        successor_start: Ints,
        successor: Ints,
        ended_start: Ints,
        final_start: int,
        reward: Floats,
        length: Ints,
        start: int = 0,
    ) -> None:
        self.vocab_size, self.horizon, self.start, self.final_start = vocab_size, horizon, start, final_start
        self.node_start = np.ascontiguousarray(node_start, dtype=np.int64)
        self.successor_start = np.ascontiguousarray(successor_start, dtype=np.int64)
        self.ended_start = np.ascontiguousarray(ended_start, dtype=np.int64)
        self.reward = np.ascontiguousarray(reward, dtype=np.float64)
        self.length = np.asarray(length, dtype=np.int64)
        self._row = np.ascontiguousarray(row, dtype=np.int64)
        self._successor = np.ascontiguousarray(successor, dtype=np.int32)

    @property
    def row(self) -> NDArray[np.int64]:
        return self._row

    @property
    def successor(self) -> NDArray[np.int32]:
        return self._successor

    def nodes(self, t: int) -> int:
        """Number of nodes of depth t; at t = T the outcomes that were cut at the horizon."""
        if t == self.horizon:
            return self.reward.size - self.final_start
        return int(self.node_start[t + 1] - self.node_start[t])

    def table(self, t: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(row [n_t], successor [n_t, V]) of depth t."""
        first, count = int(self.successor_start[t]), self.nodes(t)
        nodes = slice(int(self.node_start[t]), int(self.node_start[t + 1]))
        return self.row[nodes], self.successor[first : first + count]

    @property
    def digest(self) -> str:
        """The content of all tables in one word; found anew each time, since arrays can be written to."""
        sizes = [self.vocab_size, self.horizon, self.start, self.final_start, self.ended_start.tolist()]
        code = hashlib.sha256(repr(sizes).encode())
        layers = (table for t in range(self.horizon) for table in self.table(t))
        # 0.0 and -0.0 are one reward.
        for array in (*layers, self.reward + 0.0, self.length):
            code.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
        return code.hexdigest()

    def with_rows(self, row_of: Ints) -> "Graph":
        """The same graph reading logits row row_of[r] where it read r."""
        return Graph(
            vocab_size=self.vocab_size,
            horizon=self.horizon,
            node_start=self.node_start,
            row=np.asarray(row_of)[self.row],
            successor_start=self.successor_start,
            successor=self.successor,
            ended_start=self.ended_start,
            final_start=self.final_start,
            reward=self.reward,
            length=self.length,
            start=self.start,
        )

    @cached_property
    def num_paths(self) -> int | float:
        """Number of responses; a float, possibly inf, where it exceeds 2**53."""
        # A last entry is there to be looked up by tokens that end: a depth may have no node at all.
        count = np.ones(self.nodes(self.horizon) + 1)
        for t in reversed(range(self.horizon)):
            _, successor = self.table(t)
            with np.errstate(over="ignore"):
                below = np.where(successor >= 0, count[np.maximum(successor, 0)], 1.0).sum(axis=1)
            count = np.append(below, 1.0)
        total = float(count[self.start])
        return int(total) if total < 2**53 else total

    @cached_property
    def paths(self) -> Paths:
        """Every response token by token; refused, before allocating, when there are more than MAX_PATHS."""
        if self.num_paths > MAX_PATHS:
            raise ValueError(
                f"enumeration would expand {self.num_paths:,} responses token by token, more than MAX_PATHS "
                f"= {MAX_PATHS:,}; lower V or T, or use method='dynamic_programming' where that is exact"
            )
        tokens, rows = (np.zeros((1, self.horizon), dtype=np.int64) for _ in range(2))
        mask = np.zeros((1, self.horizon), dtype=np.bool_)
        node, done = np.array([self.start]), []
        V = self.vocab_size
        for t in range(self.horizon):
            row, successor = self.table(t)
            tokens, rows, mask = (np.repeat(x, V, axis=0) for x in (tokens, rows, mask))
            tokens[:, t] = np.tile(np.arange(V), node.size)
            rows[:, t] = np.repeat(row[node], V)
            mask[:, t] = True
            following = successor[node].reshape(-1).astype(np.int64)
            ended = following < 0
            done.append((tokens[ended], rows[ended], mask[ended], self.ended_start[t] - 1 - following[ended]))
            tokens, rows, mask, node = (x[~ended] for x in (tokens, rows, mask, following))
        done.append((tokens, rows, mask, self.final_start + node))
        tokens, rows, mask, outcome = (np.concatenate(parts) for parts in zip(*done, strict=True))
        order = np.lexsort(tuple(tokens[:, t] for t in reversed(range(self.horizon))))
        return Paths(tokens[order], rows[order], mask[order], outcome[order])

    def max_visits(self, num_rows: int) -> int:
        """nu: the largest number of times that one response reads one logits row."""
        if len(np.unique(self.row)) == self.row.size:
            return 1
        per_depth = [np.unique(self.table(t)[0]) for t in range(self.horizon)]
        if sum(rows.size for rows in per_depth) == np.unique(np.concatenate(per_depth)).size:
            return 1
        best = 0
        for first in range(0, num_rows, 256):
            wanted = np.arange(first, min(first + 256, num_rows))
            visits = np.zeros((self.nodes(self.horizon) + 1, wanted.size), dtype=np.int64)
            for t in reversed(range(self.horizon)):
                row, successor = self.table(t)
                onward = np.where(successor[..., None] >= 0, visits[np.maximum(successor, 0)], 0).max(axis=1)
                visits = np.concatenate([onward + (row[:, None] == wanted), np.zeros_like(visits[:1])])
            best = max(best, int(visits[self.start].max()))
        return best


class Tree(Graph):
    """The prefix tree of V**T responses, or with an EOS token those that end at EOS or at T.

    `reward` is given in lexicographic depth-first order of the responses and kept by outcome.
    Node n of depth t is the n-th prefix of that length in lexicographic order, ended prefixes left out;
    its row is `node_start[t] + n`. Tables are built only when somebody reads them: the compiled tree pass
    computes indices instead.
    """

    def __init__(self, vocab_size: int, horizon: int, eos: int | None, reward: Floats) -> None:
        self.vocab_size, self.horizon, self.eos, self.start = vocab_size, horizon, eos, 0
        self.fanout = vocab_size if eos is None else vocab_size - 1
        widths = [self.fanout**t for t in range(horizon)]
        self.node_start = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
        self.successor_start = self.node_start[:-1].copy()
        # Slots of ended responses first, by depth, then those cut at the horizon: one EOS for each node.
        ended = int(self.node_start[-1]) if eos is not None else 0
        self.ended_start = (
            self.node_start[:-1].copy() if eos is not None else np.zeros(horizon, dtype=np.int64)
        )
        self.final_start = ended
        self.num_responses = ended + self.fanout**horizon
        if eos is None:
            self.reward = np.ascontiguousarray(reward, dtype=np.float64)
        else:
            self.reward = np.empty(self.num_responses)
            self.reward[self.outcome_of_response] = reward

    @property
    def num_paths(self) -> int:  # type: ignore[override]
        return self.num_responses

    @cached_property
    def length(self) -> NDArray[np.int64]:  # type: ignore[override]
        if self.eos is None:
            return np.broadcast_to(np.int64(self.horizon), (self.num_responses,))
        by_depth = np.repeat(np.arange(1, self.horizon + 1), np.diff(self.node_start))
        return np.concatenate([by_depth, np.full(self.fanout**self.horizon, self.horizon)])

    @cached_property
    def row(self) -> NDArray[np.int64]:  # type: ignore[override]
        return np.arange(int(self.node_start[-1]))

    @cached_property
    def successor(self) -> NDArray[np.int32]:  # type: ignore[override]
        tables = []
        for t in range(self.horizon):
            nodes = np.arange(self.fanout**t, dtype=np.int32)[:, None]
            if self.eos is None:
                tables.append(nodes * self.fanout + np.arange(self.fanout, dtype=np.int32))
            else:
                rank = np.array([a - (a > self.eos) for a in range(self.vocab_size)], dtype=np.int32)
                table = nodes * self.fanout + rank
                table[:, self.eos] = -1 - nodes[:, 0]
                tables.append(table)
        return np.concatenate(tables).astype(np.int32)

    @cached_property
    def outcome_of_response(self) -> NDArray[np.int64]:
        """Outcome index of every response in lexicographic depth-first order."""
        if self.eos is None:
            return np.arange(self.num_responses)
        leaves = [1]
        for _ in range(self.horizon):
            leaves.append(1 + self.fanout * leaves[-1])
        outcome = np.empty(self.num_responses, dtype=np.int64)
        first = np.zeros(1, dtype=np.int64)
        for t in range(self.horizon):
            below = leaves[self.horizon - 1 - t]
            outcome[first + self.eos * below] = self.ended_start[t] + np.arange(first.size)
            rank = np.arange(self.fanout)
            first = (first[:, None] + rank * below + (rank >= self.eos)).reshape(-1)
        outcome[first] = self.final_start + np.arange(first.size)
        return outcome
