"""Samplers: the policy mu that draws the responses, made from the one that the trainer has.

    theta_sampler = sampler(theta)        # logits [S, V] -> logits [S, V], float64; -inf: never drawn

`temperature(t)`, `top_p(p)`, `top_k(k)`, `min_p(p)` are the parameters of that name of inference engines,
`bfloat16()` rounds logits as an engine does that writes its last layer in bfloat16, and `noise(sd, seed)`
stands for kernels that add in another order, or for quantised weights. `chain(...)` is several of them in
the order of an engine, and `parse_sampler` reads "top_p=0.9,temperature=0.7". `lost_mass` is what theta
would draw and mu never does.

A sampler masks by -inf and keeps the logits of what it leaves: inside their support top_p, top_k and min_p
draw from the policy, renormalised. What is -inf in theta stays so; a row keeps its likeliest token.

The order. vLLM divides by the temperature, then applies min_p, top_k, top_p, each to what the one before
left over (vLLM, vllm/v1/sample/sampler.py, docstring of `Sampler`, steps 7b to 7d, and
vllm/v1/sample/ops/topk_topp_sampler.py, `apply_top_k_top_p_pytorch`). `generate` of transformers takes
temperature, top_k, top_p, min_p (transformers 5.10.4, generation/utils.py, `_get_logits_processor`), which
keeps other tokens where top_p and min_p both act: chain(..., order=TRANSFORMERS). Noise and bfloat16 belong
to the logits as they come out of the last layer, and go first.

Equal logits. top_k keeps every token whose logit is at least the k-th largest, more than k where some are
equal, as both engines do. top_p keeps the smallest set of likeliest tokens whose mass reaches p; of equal
logits at its border both engines keep what a sort from below puts last, which for a stable sort, as here,
is the larger token. A mass that reaches p up to a relative ROUNDING counts as reaching it, and so with
min_p: of probabilities 0.5, 0.3, 0.2 top_p(0.8) keeps two, where float32 decides by its last bit.
"""

import contextlib
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.inputs.numbers import finite_number, integer, shown, whole_number
from ticgrpo_theory.stats.rng import stream
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds.policy import check_entries, checked_table


@dataclass(frozen=True)
class Sampler:
    """The common part: theta [S, V] and what comes out are checked; `str` is what `parse_sampler` reads."""

    parameters: ClassVar[tuple[str, ...]] = ()
    """How the fields are written, in their order; the first one as the name of the sampler."""

    def __call__(self, theta: Tensor | ArrayLike) -> Float[Tensor, "S V"]:
        """theta_sampler. Raises ValueError for what is no table of logits, before or after."""
        drawn = self.of(checked_table(theta, "theta").clone())
        check_entries(drawn, f"theta_sampler = {self}(theta)")
        return drawn

    def of(self, theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
        """The formula, of a table that has been checked."""
        raise TypeError(f"{type(self).__name__} defines no formula")

    def __str__(self) -> str:
        values = vars(self).values()
        written = [f"{name}={value!r}" for name, value in zip(self.parameters, values, strict=True)]
        return ",".join(written) or type(self).__name__


@dataclass(frozen=True)
class temperature(Sampler):
    """mu(a | s) proportional to exp(theta[s, a] / t); t = 1 is theta itself, to the bit.

    The largest logit of a row is taken off first, which changes no probability, and what has probability 0 in
    float64 is masked. vLLM draws at t = 0.01 for 0 < t < 0.01, and the likeliest token for t = 0: `top_k(1)`.
    Source: vLLM, vllm/v1/sample/sampler.py, `apply_temperature`; vllm/sampling_params.py, `_MAX_TEMP`.
    """

    parameters = ("temperature",)
    t: int | float

    def __post_init__(self) -> None:
        keep(self, "t", finite_number("temperature", self.t, "it divides the logits; top_k=1 is its limit 0"))
        if self.t <= 0:
            raise ValueError(
                f"temperature = {self.t:g} must be > 0, as it divides the logits: top_k=1 is its limit 0"
            )

    def of(self, theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
        if self.t == 1:
            return theta
        drawn = (theta - theta.amax(dim=-1, keepdim=True)) / self.t
        return drawn.where(torch.softmax(drawn, dim=-1) > 0, -math.inf)


@dataclass(frozen=True)
class top_p(Sampler):
    """Token a stays iff the mass of those before it, from the likeliest on, is below p; p = 1 keeps all.

    Source: arXiv:1904.09751 v2, Sec. 3.1; vLLM, vllm/v1/sample/ops/topk_topp_sampler.py, and transformers
    5.10.4, `TopPLogitsWarper`, which mask where the mass of a token and of all after it is <= 1 - p.
    """

    parameters = ("top_p",)
    p: int | float

    def __post_init__(self) -> None:
        keep(self, "p", finite_number("top_p", self.p, "the mass that is kept; top_p=1 keeps every token"))
        if not 0 < self.p <= 1:
            raise ValueError(
                f"top_p = {self.p:g} must be > 0 and <= 1, the mass that is kept: top_p=1 keeps every token, "
                f"top_k=1 the likeliest alone"
            )

    def of(self, theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
        if self.p == 1:
            return theta
        ranked, token = (x.flip(-1) for x in theta.sort(dim=-1, stable=True))
        mass = torch.softmax(ranked, dim=-1).cumsum(dim=-1)
        before = torch.cat([torch.zeros_like(mass[:, :1]), mass[:, :-1]], dim=-1)
        stays = before < self.p * (1 - ROUNDING)
        return theta.where(torch.empty_like(stays).scatter(-1, token, stays), -math.inf)


@dataclass(frozen=True)
class top_k(Sampler):
    """Token a stays iff theta[s, a] >= the k-th largest logit of its row; k >= V, 0 and -1 keep all.

    Source: arXiv:1805.04833 v1; vLLM, vllm/v1/sample/ops/topk_topp_sampler.py, `apply_top_k_only`, and
    transformers 5.10.4, `TopKLogitsWarper`.
    """

    parameters = ("top_k",)
    k: int

    def __post_init__(self) -> None:
        keep(self, "k", integer("top_k", self.k, 1, "tokens that are kept; 0 or -1 keeps every one"))
        if self.k < -1:
            raise ValueError(f"top_k = {self.k} must be >= 1, or 0 or -1, which keep every token")

    def of(self, theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
        if not 0 < self.k < theta.shape[-1]:
            return theta
        return theta.where(theta >= theta.topk(self.k, dim=-1).values[:, -1:], -math.inf)


@dataclass(frozen=True)
class min_p(Sampler):
    """Token a stays iff pi(a | s) >= p max_b pi(b | s): theta[s, a] - max theta[s] >= log p; p = 0 keeps all.

    Source: arXiv:2407.01082 v4; vLLM, vllm/v1/sample/logits_processor/builtin.py, `MinPLogitsProcessor`, and
    transformers 5.10.4, `MinPLogitsWarper`, which mask what is smaller.
    """

    parameters = ("min_p",)
    p: int | float

    def __post_init__(self) -> None:
        keep(self, "p", finite_number("min_p", self.p, "a share of the largest probability; 0 keeps all"))
        if not 0 <= self.p <= 1:
            raise ValueError(
                f"min_p = {self.p:g} must be >= 0 and <= 1, the share of the largest probability that a "
                f"token needs: min_p=0 keeps every token"
            )

    def of(self, theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
        least = math.log(self.p) - ROUNDING if self.p > 0 else -math.inf
        return theta.where(theta - theta.amax(dim=-1, keepdim=True) >= least, -math.inf)


@dataclass(frozen=True)
class bfloat16(Sampler):
    """theta rounded to float32, then to bfloat16 (8 significant bits, ties to even): what a last layer writes
    that adds in float32. A logit in [8, 16) moves by up to 1/32.

    Raises ValueError for logits beyond 3.39e38 in size.
    """

    def of(self, theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
        rounded = theta.to(torch.float32).to(torch.bfloat16).double()
        lost = rounded.isinf() & theta.isfinite()
        if bool(lost.any()):
            row, token = lost.nonzero()[0].tolist()
            raise ValueError(
                f"theta[{row}, {token}] = {theta[row, token].item():g} is beyond the largest bfloat16, "
                f"{torch.finfo(torch.bfloat16).max:.3g}: give smaller logits, or -inf to mask the token"
            )
        return rounded


@dataclass(frozen=True)
class noise(Sampler):
    """theta[s, a] + sd z[s, a], z standard normal, independent, the same for the same seed and shape.

    The noise of other weights: a row that is read twice has the same mu twice. A masked token stays masked.
    """

    parameters = ("noise", "seed")
    sd: int | float
    seed: int = 0

    def __post_init__(self) -> None:
        keep(self, "sd", finite_number("noise", self.sd, "the standard deviation by which logits move"))
        keep(self, "seed", whole_number("seed", self.seed, 0, "the name of the noise"))
        if self.sd < 0:
            raise ValueError(f"noise = {self.sd:g} must be >= 0: the standard deviation by which logits move")

    def of(self, theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
        generator = stream(self.seed, "samplers", "noise")
        return theta + self.sd * torch.randn(theta.shape, generator=generator, dtype=torch.float64)


VLLM: tuple[type[Sampler], ...] = (noise, bfloat16, temperature, min_p, top_k, top_p)
"""The order of vLLM; see the module."""

TRANSFORMERS: tuple[type[Sampler], ...] = (noise, bfloat16, temperature, top_k, top_p, min_p)
"""The order of `generate` in transformers; see the module."""


@dataclass(frozen=True)
class Chain(Sampler):
    """The samplers one after the other, as they stand here; made by `chain`, which sorts them."""

    samplers: tuple[Sampler, ...]

    def of(self, theta: Float[Tensor, "S V"]) -> Float[Tensor, "S V"]:
        for sampler in self.samplers:
            theta = sampler(theta)
        return theta

    def __str__(self) -> str:
        return ",".join(map(str, self.samplers))


def chain(*samplers: Sampler, order: tuple[type[Sampler], ...] = VLLM) -> Chain:
    """The samplers in the order of an engine, VLLM or TRANSFORMERS.

    Raises ValueError for none, two of a kind, and what is none of the six.
    """
    kinds = [type(sampler) for sampler in samplers]
    names = ", ".join(kind.__name__ for kind in order)
    for sampler in samplers:
        if type(sampler) not in order:
            raise ValueError(f"chain: {shown(sampler)} has no place in the order; give some of {names}")
        if kinds.count(type(sampler)) > 1:
            raise ValueError(f"chain: {type(sampler).__name__} is given twice; give each of {names} once")
    if not samplers:
        raise ValueError(f"chain() has no sampler; give some of {names}")
    return Chain(tuple(sorted(samplers, key=lambda sampler: order.index(type(sampler)))))


def parse_sampler(written: str, order: tuple[type[Sampler], ...] = VLLM) -> Sampler:
    """The sampler of "top_p=0.9", or the chain of "temperature=0.7,top_p=0.9,bfloat16,noise=0.01,seed=3".

    `seed` is that of the noise. Raises ValueError for unknown names, with those that are known, names given
    twice, and values that are no numbers or out of range.
    """
    takers = {name: kind for kind in order for name in kind.parameters or (kind.__name__,)}
    example = "write name=value,... as in top_p=0.9,temperature=0.7"
    given: dict[str, int | float | str] = {}
    for part in written.split(","):
        name, equals, value = (text.strip() for text in part.partition("="))
        if name not in takers:
            raise ValueError(f"sampler = {written!r}: unknown name {name!r}; {example} ({', '.join(takers)})")
        if name in given:
            raise ValueError(f"sampler = {written!r}: {name} is given twice; keep one of them")
        if bool(equals) != bool(takers[name].parameters):
            needs = "takes no value" if equals else "needs a value"
            raise ValueError(f"sampler = {written!r}: {name} {needs}; {example}")
        given[name] = number_of(value)
    if "seed" in given and "noise" not in given:
        raise ValueError(f"sampler = {written!r}: seed is that of noise=..., which is missing; leave it out")
    kinds = dict.fromkeys(takers[name] for name in given)
    found = [kind(*(given[name] for name in kind.parameters if name in given)) for kind in kinds]
    return found[0] if len(found) == 1 else chain(*found, order=order)


def number_of(text: str) -> int | float | str:
    """The number that is written; the text itself where it is none, which a sampler refuses."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def keep(sampler: Sampler, name: str, value: int | float) -> None:
    """Keep the checked number in a frozen dataclass."""
    object.__setattr__(sampler, name, value)


def lost_mass(theta: Tensor | ArrayLike, theta_sampler: Tensor | ArrayLike) -> Float[Tensor, " S"]:
    """sum_a pi_theta(a | s) 1{mu(a | s) = 0}, of each row: 0 where mu draws all that theta draws.

    mu is 0 as float64 has it. Raises ValueError for tables that are no logits, or of two shapes.
    """
    pi, mu = checked_table(theta, "theta"), checked_table(theta_sampler, "theta_sampler")
    if pi.shape != mu.shape:
        raise ValueError(
            f"theta has shape {tuple(pi.shape)}, theta_sampler {tuple(mu.shape)}: both are of one world"
        )
    return torch.softmax(pi, dim=-1).where(torch.softmax(mu, dim=-1) == 0, 0.0).sum(dim=-1)
