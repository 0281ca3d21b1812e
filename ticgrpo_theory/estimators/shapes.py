"""Clips without bounds: a function of the log-ratio and of the sign of A in the place of clamp and gate.

    c(v, sign) = phi(v, sign, logp_old),   v = ratio(log_ratio)                            (see estimator.py)

phi is what multiplies A and the score once the objective is differentiated. Where v is a token ratio each
weight is a function of its own token, as that of a clip is; where it is pooled, of the whole response.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from ticgrpo_theory.estimators.clipping import Bounds, Clip, by_sign, unclipped
from ticgrpo_theory.estimators.properties import Reads, declared, declared_call, reads
from ticgrpo_theory.estimators.ratios import Ratio
from ticgrpo_theory.inputs.numbers import finite_number, shown

Tokens = Float[Tensor, "*b G T"]


@dataclass(frozen=True)
class Shape(Clip):
    """The common part: no bounds, and weights phi(v, sign, logp_old).

    A subclass gives `phi` and declares with `@reads` what it reads besides v.
    """

    @property
    def sees_position(self) -> bool:
        """Whether the weight of a token depends on its place t in the response."""
        return False

    def declarations(self, ratio: Ratio) -> dict[str, tuple[object, Reads | None]]:
        return {"its ratio": (ratio, declared_call(ratio)), "its shape": (formula_of(self), reads_of(self))}

    @reads(Reads.NOTHING)
    def bounds(self, positive: Bool[Tensor, "*b G"], length: Int[Tensor, "*b G"]) -> Bounds:
        return unclipped().bounds(positive, length)

    def weight(self, ratio: Ratio, log_ratio: Tokens, mask: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no bounds: its weights are those of weights_of")

    def phi(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        """The weight at the log-ratio v, for A >= 0 (`positive`) and for A < 0."""
        raise TypeError(f"{type(self).__name__} defines no phi")

    def free(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        """The weight of the same token if nothing were clipped: phi itself, where it is smooth."""
        return self.phi(v, positive, logp_old)

    def weights(
        self,
        ratio: Ratio,
        log_ratio: Tokens,
        mask: Bool[Tensor, "*b G T"],
        positive: Bool[Tensor, "*b G"],
        logp_old: Tokens | None,
        sampler_log_ratio: Tokens | None,
    ) -> Tokens:
        """phi at the pooled log-ratio; a subclass that reads more of the response overrides this one."""
        return self.phi(ratio(log_ratio, mask), positive[..., None], logp_old)


def formula_of(shape: Shape) -> object:
    """The function that computes the weights of a shape."""
    kind = type(shape)
    return kind.phi if kind.weights is Shape.weights else kind.weights


def reads_of(shape: Shape) -> Reads | None:
    """What a shape declares that its weights read besides the pooled log-ratio."""
    return declared(formula_of(shape), shape)


def weights_of(
    clip: Clip,
    ratio: Ratio,
    log_ratio: Tokens,
    mask: Bool[Tensor, "*b G T"],
    positive: Bool[Tensor, "*b G"],
    logp_old: Tokens | None = None,
    sampler_log_ratio: Tokens | None = None,
) -> Tokens:
    """What multiplies A and the score of every token under a clip or a shape, unmasked.

    Without `sampler_log_ratio`, log pi_old - log mu, theta_old is the sampler. Raises ValueError for a shape
    that reads a logp_old which is not given.
    """
    if not isinstance(clip, Shape):
        lo, hi = clip.bounds(positive, mask.sum(dim=-1))
        lo, hi = lo.to(log_ratio.dtype)[..., None], hi.to(log_ratio.dtype)[..., None]
        return clip.weight(ratio, log_ratio, mask, lo, hi)
    return clip.weights(ratio, log_ratio, mask, positive, logp_old, sampler_log_ratio)


def is_own_token(clip: Clip) -> bool:
    """Whether a shape makes a token's weight of its own token alone, wherever it is, as its ratio does."""
    if not isinstance(clip, Shape) or clip.sees_position:
        return False
    found = reads_of(clip)
    return found is not None and found <= Reads.OWN_TOKEN


def check_positive(shape: Shape) -> None:
    """Raise ValueError for a parameter that is no finite number > 0."""
    for field in fields(shape):
        value = getattr(shape, field.name)
        if not isinstance(value, str) and not finite_number(field.name, value, "numbers") > 0:
            raise ValueError(f"{field.name} = {shown(value)}: {type(shape).__name__} takes numbers > 0")


@dataclass(frozen=True)
class sigmoid_gate(Shape):
    """phi = 4 s (1 - s) w, s = sigmoid(tau (w - 1)), with a tau for each sign of A; 1 at w = 1.

    It is the derivative of (4 / tau) sigmoid(tau (w - 1)) A in log pi. Raises ValueError for tau <= 0.
    Source: arXiv:2511.20347 (SAPO); the loss type `sapo` of TRL 1.16, whose defaults these are.
    """

    tau_positive: float = 1.0
    tau_negative: float = 1.05

    def __post_init__(self) -> None:
        check_positive(self)

    @reads(Reads.NOTHING)
    def phi(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        tau = by_sign(positive, self.tau_positive, self.tau_negative).to(v.dtype)
        x = tau * torch.expm1(v)
        # In logarithms: w may overflow where s (1 - s) w is 0.
        return (math.log(4.0) + v + logsigmoid(x) + logsigmoid(-x)).exp()


LOWEST, HIGHEST = math.log(1e-8), 20.0
"""Limits on the log-ratio of `gamma_weight`."""


@dataclass(frozen=True)
class gamma_weight(Shape):
    """phi = w^k exp(lambda (1 - w)), k and lambda by the sign of A; 1 at w = 1, and held: no gate.

    log w is clamped to [log 1e-8, 20] first. Meant for the trajectory ratio. ValueError for numbers <= 0.
    Source: arXiv:2602.10693 (VESPO); the loss type `vespo` of TRL 1.16, whose defaults and limits these are.
    """

    k_positive: float = 2.0
    lambda_positive: float = 3.0
    k_negative: float = 3.0
    lambda_negative: float = 2.0

    def __post_init__(self) -> None:
        check_positive(self)

    @reads(Reads.NOTHING)
    def phi(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        k = by_sign(positive, self.k_positive, self.k_negative).to(v.dtype)
        rate = by_sign(positive, self.lambda_positive, self.lambda_negative).to(v.dtype)
        v = v.clamp(LOWEST, HIGHEST)
        return (k * v - rate * torch.expm1(v)).exp()


NEAR = 1e-8
"""What released code adds to 1 - p in the binary KL divergence."""


def total_variation(p: Tokens, p_old: Tokens, v: Tokens) -> Tokens:
    """|p - p_old|, of the token that was drawn against all others."""
    return (p - p_old).abs()


def binary_kl(p: Tokens, p_old: Tokens, v: Tokens) -> Tokens:
    """KL(p_old || p) of the token that was drawn against all others."""
    return -p_old * v + (1 - p_old) * torch.log((1 - p_old + NEAR) / (1 - p + NEAR))


DIVERGENCES = {"tv": total_variation, "kl": binary_kl}


@dataclass(frozen=True)
class divergence_gate(Shape):
    """phi = min(w, cap), 0 where the token has left its trust region in the direction of A.

    It has left where D > high and p > p_old for A >= 0, where D > low and p < p_old for A < 0; p and p_old
    are the probabilities of the token that was drawn, D = |p - p_old| ("tv") or the KL divergence of this
    token against all others ("kl"). The weight is held at `cap`. Meant for the token ratio.
    Source: arXiv:2602.04879 (DPPO), as in verl's losses `dppo_tv` and `dppo_kl`; their scripts take 0.15
    ("tv"), 0.05 ("kl"). Raises ValueError for another kind, numbers <= 0 and cap < 1.
    """

    kind: str = "tv"
    low: float = 0.15
    high: float = 0.15
    cap: float = 20.0

    def __post_init__(self) -> None:
        if self.kind not in DIVERGENCES:
            raise ValueError(f"kind = {shown(self.kind)}: choose 'tv' or 'kl'")
        check_positive(self)
        if self.cap < 1:
            raise ValueError(f"cap = {self.cap}: a ratio of 1 keeps its weight, which needs cap >= 1")

    @reads(Reads.OWN_TOKEN)
    def phi(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        if logp_old is None:
            raise ValueError(f"{self!r} compares probabilities: it needs logp_old beside the log-ratios")
        p_old = logp_old.exp()
        p = (logp_old + v).exp()
        D = DIVERGENCES[self.kind](p, p_old, v)
        left = torch.where(positive, (D > self.high) & (v > 0), (D > self.low) & (v < 0))
        return self.held(v).where(~left, 0.0)

    def free(self, v: Tokens, positive: Bool[Tensor, "*b G 1"], logp_old: Tokens | None) -> Tokens:
        return v.exp()

    def held(self, v: Tokens) -> Tokens:
        """min(w, cap)."""
        return v.clamp(max=math.log(self.cap)).exp()
