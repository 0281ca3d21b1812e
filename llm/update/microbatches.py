"""How rows are cut into micro-batches: only memory and speed depend on it, no number of an update does.

A partition maps `Sequences` to lists of row numbers that together are all rows, each once. It depends on
lengths alone, so that the old log-probabilities and the update see the same micro-batches.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from llm.sequences import Sequences

Partition = Callable[[Sequences], list[Tensor]]


@dataclass(frozen=True)
class consecutive_rows:
    """`rows` rows at a time, in their order."""

    rows: int

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows = {self.rows}: a micro-batch has at least 1 row")

    def __call__(self, sequences: Sequences) -> list[Tensor]:
        return list(torch.arange(len(sequences), device=sequences.response.device).split(self.rows))


@dataclass(frozen=True)
class padded_tokens:
    """Rows of similar length together, as many as fit into `limit` tokens, padding counted; longest rows
    first.

    The longest come first so that a limit too large for the memory shows at once.
    """

    limit: int

    def __call__(self, sequences: Sequences) -> list[Tensor]:
        lengths = sequences.total_lengths
        longest = int(lengths.max())
        if longest > self.limit:
            raise ValueError(
                f"a row has {longest} tokens, more than limit = {self.limit} tokens of a micro-batch: raise "
                f"the limit to the longest prompt plus the longest response, or lower the response limit"
            )
        order = lengths.argsort(descending=True, stable=True)
        parts, first, widths = [], 0, lengths[order].tolist()
        while first < len(order):
            # The first row of a micro-batch is its longest: its length is the width of all.
            size = self.limit // widths[first]
            parts.append(order[first : first + size])
            first += size
        return parts
