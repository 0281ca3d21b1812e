"""The table of axes and symbols, and the one container that every formula reads.

Axes
    *b   any leading axes: replicates, enumerated groups, micro-batches
    G    responses of one group, drawn independently for one prompt from the sampler, which is pi_theta_old
         unless said otherwise
    T    token positions, padded at the end to the longest response of the tensor
    V    vocabulary; S logits rows ("states"); K inner steps; N outer iterations
    i    a response of the group; t a token of a response

Symbols (arXiv:2508.02833 v2, Sec. 2)
    logp[i,t]      log pi_theta(a[i,t] | s[i,t-1])
    logp_old[i,t]  log pi_theta_old(a[i,t] | s[i,t-1])
    logp_ref[i,t]  log pi_ref(a[i,t] | s[i,t-1]), only where a penalty reads it
    logp_sampler[i,t]  log mu(a[i,t] | s[i,t-1]), mu the policy that drew the response; only where it is read
    reward[i]      r(s[i,T]), one number for a whole response
    mask[i,t]      True at tokens of the response, the EOS token included; False at padding
    length[i]      |s_i|, the number of True entries of mask[i]
    A[i]           advantage;  l = logp - logp_old token log-ratio;  v pooled log-ratio;  w = exp(v)
    c[i,t]         token weight: the gradient is sum_it c[i,t] grad log pi_theta(a[i,t] | s[i,t-1])

Every objective is to be maximised.
"""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ticgrpo_theory.inputs.numbers import shown

ABOVE_ZERO = 1024
"""Roundings by which log-probabilities may exceed 0: a logsumexp over a large vocabulary has many."""

DRAWN_BY = {"logp_old": "theta_old", "logp_sampler": "the sampler"}
"""Policies under which a token that was drawn has a probability, by the name of its table."""


@dataclass(frozen=True)
class Batch:
    """Groups of responses as estimators see them, [*b, G, T], l = logp - logp_old; padding is never read.

    `horizon` is the response limit of the world or of the sampler (never the width T of a padded tensor);
    only scales that divide by a constant length read it.

    Raises ValueError where shapes disagree. Source: arXiv:2508.02833 v2, Sec. 2, for the symbols.
    """

    logp: Float[Tensor, "*b G T"]
    logp_old: Float[Tensor, "*b G T"]
    reward: Float[Tensor, "*b G"]
    mask: Bool[Tensor, "*b G T"]
    logp_ref: Float[Tensor, "*b G T"] | None = None
    horizon: int | None = None
    logp_sampler: Float[Tensor, "*b G T"] | None = None
    truncated: Bool[Tensor, "*b G"] | None = None
    """True for a response that was cut at its limit, without EOS: filters and callables read it."""
    group: Int[Tensor, "*b B"] | None = None
    """Of rows of a whole update: the group 0..P-1 of each. The axis G is then that of all B = P G rows."""
    tokens: Int[Tensor, "*b G T"] | None = None
    """a[i,t], 0..V-1, only where it is known: callables read it; at padding any token."""

    def __post_init__(self) -> None:
        for name in ("logp", "logp_old", "reward", "mask"):
            if not isinstance(value := getattr(self, name), Tensor):
                raise ValueError(
                    f"{name} = {shown(value)} is no tensor: give torch.tensor(..., dtype=torch.float64), or "
                    f"dtype=torch.bool for the mask"
                )
        if self.logp.ndim < 2:
            raise ValueError(
                f"logp has shape {tuple(self.logp.shape)}; a batch needs at least the axes (G, T): "
                f"add a group axis of length 1 for a single response"
            )
        expected = {"logp_old": self.logp.shape, "mask": self.logp.shape, "reward": self.logp.shape[:-1]}
        for name in ("logp_ref", "logp_sampler", "tokens"):
            if getattr(self, name) is not None:
                expected[name] = self.logp.shape
        for name in ("truncated", "group"):
            if getattr(self, name) is not None:
                expected[name] = self.logp.shape[:-1]
        if self.mask.dtype != torch.bool:
            raise ValueError(
                f"mask has dtype {self.mask.dtype}; it must be torch.bool, True at tokens of the response: "
                f"give mask.bool()"
            )
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(
                    f"{name} has shape {tuple(found)} where logp of shape {tuple(self.logp.shape)} "
                    f"(*b, G, T) requires {tuple(shape)}: pad or index it to match"
                )

    @property
    def log_ratio(self) -> Float[Tensor, "*b G T"]:
        """l[i,t] = logp[i,t] - logp_old[i,t]; 0 on padding."""
        return (self.logp - self.logp_old).where(self.mask, 0.0)

    @property
    def sampler_log_ratio(self) -> Float[Tensor, "*b G T"] | None:
        """logp_old[i,t] - logp_sampler[i,t]; 0 on padding; None where the sampler is not known."""
        if self.logp_sampler is None:
            return None
        return (self.logp_old - self.logp_sampler).where(self.mask, 0.0)

    @property
    def length(self) -> Int[Tensor, "*b G"]:
        """|s_i|, in tokens, EOS included."""
        return self.mask.sum(dim=-1)

    def as_update(self) -> "Batch":
        """The same groups, each as an update of one: an axis P = 1 before G."""
        names = ("logp", "logp_old", "mask", "logp_ref", "logp_sampler", "tokens")
        tables = {name: x.unsqueeze(-3) for name in names if (x := getattr(self, name)) is not None}
        rows = {n: x.unsqueeze(-2) for n in ("reward", "truncated") if (x := getattr(self, n)) is not None}
        return dataclasses.replace(self, **tables, **rows, group=None)

    def check(self) -> None:
        """Raise ValueError for what would become a silent NaN or a wrong scale.

        Empty responses, responses longer than the horizon, non-finite rewards and log-probabilities.
        """
        if not bool(self.mask.any(dim=-1).all()):
            first = (~self.mask.any(dim=-1)).nonzero()[0].tolist()
            raise ValueError(
                f"response {first} (index over *b, G) is empty: its mask is False everywhere; "
                f"a response has at least its EOS token, so keep that token in the mask or drop the response"
            )
        if self.horizon is not None and self.length.max() > self.horizon:
            raise ValueError(
                f"horizon = {self.horizon}, but a response has {self.length.max().item()} tokens: horizon is "
                f"the limit on the length of a response, so no response may exceed it"
            )
        if not bool(torch.isfinite(self.reward).all()):
            first = (~torch.isfinite(self.reward)).nonzero()[0].tolist()
            value = self.reward[tuple(first)].item()
            raise ValueError(f"reward{first} = {value} is not finite: rewards must be finite numbers")
        for name in ("logp", "logp_old", "logp_ref", "logp_sampler"):
            table = getattr(self, name)
            if table is None:
                continue
            # log pi = -inf is legitimate under theta (a masked token), never for a token that was sampled;
            # rounding may leave a certain token a little above 0.
            above = ABOVE_ZERO * torch.finfo(table.dtype).eps
            bad = torch.isnan(table) | (table > above) | ((table == -torch.inf) & (name in DRAWN_BY))
            bad = bad & self.mask
            if bool(bad.any()):
                first = bad.nonzero()[0].tolist()
                raise ValueError(
                    f"{name}{first} = {table[tuple(first)].item()} at a token of a response: "
                    f"log-probabilities must be numbers <= 0, and a sampled token cannot have probability "
                    f"zero under {DRAWN_BY.get(name, 'the policy that drew it')}"
                )
