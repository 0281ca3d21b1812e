"""The table of axes of language-model tensors, and the one container of prompts and responses.

Axes (with those of ticgrpo_theory.batch: G responses, T response tokens, V vocabulary)
    P   prompts of an update, each with its own group of G responses
    B   rows; where rows are groups, B = P G and row p G + i is response i of prompt p
    L   prompt tokens, padded on the LEFT (as a sampler needs them)
    T   response tokens, padded on the RIGHT
    LT  L + T, the width of both side by side as a sampler leaves them
    W   tokens of a whole row, prompt and response side by side, padded on the right
    n   response tokens of all rows, row after row, padding left out
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sequences:
    """Prompts and responses as token numbers with masks; what stands at padding is never read.

    The EOS token that ends a response is part of it: `mask` is True there. A response that was cut at the
    limit has no EOS.
    """

    prompt: Int[Tensor, "B L"]
    prompt_mask: Bool[Tensor, "B L"]
    response: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]

    def __post_init__(self) -> None:
        for name in ("prompt", "response"):
            mask_name = {"prompt": "prompt_mask", "response": "mask"}[name]
            tokens, mask = getattr(self, name), getattr(self, mask_name)
            if tokens.shape != mask.shape or tokens.ndim != 2 or len(tokens) != len(self.prompt):
                raise ValueError(
                    f"{name} has shape {tuple(tokens.shape)}, {mask_name} {tuple(mask.shape)} and prompt "
                    f"{tuple(self.prompt.shape)}: all are (rows, tokens) with the same number of rows"
                )

    @classmethod
    def of_lists(
        cls,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        pad: int,
        device: str | torch.device = "cpu",
    ) -> "Sequences":
        """One prompt and one response for each row, as token numbers; the response includes its EOS token.

        Raises ValueError for an empty prompt or response.
        """
        L = max((len(prompt) for prompt in prompts), default=0)
        T = max((len(response) for response in responses), default=0)
        found = cls(
            torch.tensor([[pad] * (L - len(p)) + list(p) for p in prompts], dtype=torch.int64).reshape(-1, L),
            torch.tensor([[False] * (L - len(p)) + [True] * len(p) for p in prompts]).bool().reshape(-1, L),
            torch.tensor([list(r) + [pad] * (T - len(r)) for r in responses], dtype=torch.int64).reshape(
                -1, T
            ),
            torch.tensor([[True] * len(r) + [False] * (T - len(r)) for r in responses]).bool().reshape(-1, T),
        )
        found.check()
        return found.to(device)

    def check(self) -> None:
        """Raise ValueError for empty prompts or responses, and for padding on the wrong side."""
        for name, mask, side in (("prompt", self.prompt_mask, "left"), ("response", self.mask, "right")):
            empty = ~mask.any(dim=-1)
            if bool(empty.any()):
                row = int(empty.nonzero()[0])
                raise ValueError(
                    f"{name} {row} is empty: a prompt has at least one token (give a BOS token where the "
                    f"text is empty), and a response at least its EOS token; drop the row otherwise"
                )
            steps = mask.long().diff(dim=-1)
            wrong = (steps < 0 if side == "left" else steps > 0).any(dim=-1)
            if bool(wrong.any()):
                row = int(wrong.nonzero()[0])
                raise ValueError(
                    f"the mask of {name} {row} has padding that is not on the {side}: prompts are padded on "
                    f"the left, responses on the right"
                )

    def __len__(self) -> int:
        return len(self.response)

    @property
    def prompt_lengths(self) -> Int[Tensor, " B"]:
        """Tokens of each prompt."""
        return self.prompt_mask.sum(dim=-1)

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """|s_i|: tokens of each response, EOS included."""
        return self.mask.sum(dim=-1)

    @property
    def total_lengths(self) -> Int[Tensor, " B"]:
        """Tokens of prompt and response together."""
        return self.prompt_lengths + self.lengths

    @property
    def input_ids(self) -> Int[Tensor, "B _"]:
        """Left-padded prompts followed by right-padded responses, as a sampler leaves them."""
        return torch.cat([self.prompt, self.response], dim=-1)

    @property
    def attention_mask(self) -> Bool[Tensor, "B _"]:
        """True at every token that is not padding, in the order of `input_ids`."""
        return torch.cat([self.prompt_mask, self.mask], dim=-1)

    @property
    def position_ids(self) -> Int[Tensor, "B _"]:
        """The number of the token within its row, counted from the mask: padding on the left moves none."""
        return (self.attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)

    def aligned(self) -> Int[Tensor, "B W"]:
        """Prompt and response side by side from column 0 on, padded on the right only.

        In this order causal attention needs no mask, and the position of a token is its column. Columns after
        the last token of a row repeat some token of the row; causal attention keeps them out of everything
        that is read.
        """
        W = int(self.total_lengths.max())
        columns = torch.arange(W, device=self.response.device)
        source = columns + (self.prompt.shape[-1] - self.prompt_lengths)[:, None]
        return self.input_ids.gather(1, source.clamp(max=self.input_ids.shape[-1] - 1))

    def select(self, rows: Int[Tensor, " m"]) -> "Sequences":
        """These rows, cut to the longest prompt and the longest response among them."""
        prompt_mask, mask = self.prompt_mask[rows], self.mask[rows]
        L, T = int(prompt_mask.sum(dim=-1).max()), int(mask.sum(dim=-1).max())
        left = self.prompt.shape[-1] - L
        return Sequences(
            self.prompt[rows][:, left:], prompt_mask[:, left:], self.response[rows][:, :T], mask[:, :T]
        )

    def to(self, device: str | torch.device) -> "Sequences":
        return Sequences(
            self.prompt.to(device),
            self.prompt_mask.to(device),
            self.response.to(device),
            self.mask.to(device),
        )


def response_mask(response: Int[Tensor, "B T"], eos: Sequence[int]) -> Bool[Tensor, "B T"]:
    """mask[i,t] = no EOS token among response[i, :t]: True up to the first EOS token, which is included.

    No token number marks padding: the pad token may be the EOS token itself.
    """
    ended = torch.isin(response, torch.tensor(list(eos), device=response.device, dtype=response.dtype))
    before = ended.long().cumsum(dim=-1) - ended.long()
    return before == 0
