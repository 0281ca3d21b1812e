"""Axis `penalty`: distance to a reference policy, from the sampled tokens or from whole rows of logits.

With d = logp - logp_ref at a sampled token, the per-token estimates of KL(pi_theta || pi_ref) are

    k1 = d        k2 = d^2 / 2        k3 = exp(-d) - 1 + d

Source: J. Schulman, "Approximating KL divergence", 2020; k3 in arXiv:2402.03300 v3 (GRPO), Eq. 4.
As a loss term (`kl_loss`) they are differentiated, and what that gradient estimates is *not* decided by what
the value estimates: `ticgrpo_theory.exact.penalties.penalised` has the table. Inside the reward (`kl_reward`)
they are evaluated at the sampling policy and not differentiated. `kl_exact` sums over the vocabulary at each
visited state.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.properties import Reads, declared_call, reads
from ticgrpo_theory.estimators.ratios import Ratio, none
from ticgrpo_theory.inputs.numbers import finite_number, shown

Divergence = Callable[[Tensor], Tensor]


@reads(Reads.OWN_TOKEN)
def k1(d: Float[Tensor, "*b T"]) -> Float[Tensor, "*b T"]:
    """d."""
    return d


@reads(Reads.OWN_TOKEN)
def k2(d: Float[Tensor, "*b T"]) -> Float[Tensor, "*b T"]:
    """d^2 / 2."""
    return d.square() / 2


@reads(Reads.OWN_TOKEN)
def k3(d: Float[Tensor, "*b T"]) -> Float[Tensor, "*b T"]:
    """exp(-d) - 1 + d, written with expm1 because d is small near the reference."""
    return torch.expm1(-d) + d


@reads(Reads.OWN_RESPONSE)
def k2_of_response(d: Float[Tensor, "*b T"]) -> Float[Tensor, "*b T"]:
    """d[t] sum_u d[u] / 2, which adds up to (sum_t d[t])^2 / 2: k2 with the whole response as one action.

    Source: arXiv:2510.01555 v2, where k2 is a function of the response.
    """
    return d * d.sum(dim=-1, keepdim=True) / 2


@dataclass(frozen=True)
class held:
    """The same ratio, as a number that is not differentiated."""

    ratio: Ratio

    @reads(lambda self: declared_call(self.ratio))
    def __call__(
        self, log_ratio: Float[Tensor, "*b G T"], mask: Bool[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """ratio(log_ratio, mask), detached."""
        return self.ratio(log_ratio, mask).detach()


def check_beta(beta: float) -> None:
    """Raise ValueError for a weight of a penalty that is no finite number."""
    finite_number("beta", beta, "the weight of the penalty, in rewards per unit of the divergence")


GIVEN, OLD, SAMPLER, NOTHING = "given", "old", "sampler", "nothing"
REFERENCES = {
    GIVEN: "theta_ref",
    OLD: "theta_old",
    SAMPLER: "the sampler",
    NOTHING: "no policy: log pi_ref = 0, so that the divergence is minus the entropy",
}
"""What a penalty in the loss compares theta with, by name."""


def check_reference_name(name: str) -> None:
    """Raise ValueError for a reference that is none."""
    if name not in REFERENCES:
        raise ValueError(f"reference = {shown(name)}: choose {', '.join(map(repr, REFERENCES))}")


def reference_table(batch: Batch, reference: str) -> Float[Tensor, "*b G T"]:
    """log pi_ref of every token. Raises ValueError where the batch does not have it."""
    if reference == OLD:
        return batch.logp_old
    if reference == NOTHING:
        return torch.zeros_like(batch.logp_old)
    if reference == SAMPLER:
        if batch.logp_sampler is None:
            raise ValueError(
                "a penalty to the sampler reads log-probabilities of the sampler: give "
                "Batch(..., logp_sampler=...), or theta_sampler=... where logits are passed"
            )
        return batch.logp_sampler
    if batch.logp_ref is None:
        raise ValueError(
            "a KL penalty compares with a reference policy: give Batch(..., logp_ref=...), "
            "or theta_ref=... where logits are passed"
        )
    return batch.logp_ref


def reference_log_ratio(
    logp: Float[Tensor, "*b G T"], batch: Batch, reference: str = GIVEN
) -> Float[Tensor, "*b G T"]:
    """d[i,t] = logp[i,t] - log pi_ref of the token; 0 on padding.

    Raises ValueError where there is no reference, and where either policy gives a sampled token probability
    zero.
    """
    table = reference_table(batch, reference)
    d = (logp - table).where(batch.mask, 0.0)
    if not bool(torch.isfinite(d).all()):
        first = (~torch.isfinite(d)).nonzero()[0].tolist()
        raise ValueError(
            f"the log-ratio to the reference at index {first} is {d[tuple(first)].item()} "
            f"(log-probabilities {logp[tuple(first)].item():.6g}, and "
            f"{table[tuple(first)].item():.6g} in the reference): an estimate from sampled tokens "
            f"needs both to be finite; give the token a finite logit in both policies, or mask it (-inf) in "
            f"the policy that draws the responses"
        )
    return d


@dataclass(frozen=True)
class kl_loss:
    """- beta sum_it scale[i] exp(v[i,t]) k(d[i,t]), differentiated through both factors; v = ratio(l).

    `ratio` = none is GRPO's own penalty (arXiv:2402.03300 v3, Eq. 3), whose samples come from theta_old and
    are not reweighted; `ratio` = token multiplies by the token ratio (arXiv:2512.02556, Eq. 7; TRL since
    1.10), and it is differentiated there, so that it changes the gradient even where its value is 1; `ratio`
    = trajectory makes the *value* unbiased for the sequence KL of theta. `held(ratio)` is not differentiated.
    `scale` is the estimator's own. `reference`: "given" is theta_ref, "old" theta_old, "sampler" the policy
    that drew, "nothing" the constant 1, so that kl_loss(k2, beta, none, "nothing") is an entropy bonus from
    sampled tokens: on policy beta (log pi) grad log pi averages to - beta grad H.
    No term of it contains A: c(A) = c(0) + max(A, 0) c_plus + max(-A, 0) c_minus.
    """

    k: Divergence
    beta: float
    ratio: Ratio = none
    reference: str = GIVEN

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_reference_name(self.reference)

    def token_values(self, logp: Float[Tensor, "*b G T"], batch: Batch) -> Float[Tensor, "*b G T"]:
        """- beta exp(v[i,t]) k(d[i,t]), without scale; 0 on padding."""
        v = self.ratio((logp - batch.logp_old).where(batch.mask, 0.0), batch.mask)
        return (-self.beta * v.exp() * self.k(reference_log_ratio(logp, batch, self.reference))).where(
            batch.mask, 0.0
        )

    def weights(self, batch: Batch, scale: Float[Tensor, "*b G"]) -> Float[Tensor, "*b G T"]:
        """d/d logp[i,t] of sum_it scale[i] token_values[i,t]: one formula, differentiated by autograd."""
        logp = batch.logp.detach().where(batch.mask, 0.0).requires_grad_()
        with torch.enable_grad():
            total = (scale.to(logp.dtype)[..., None] * self.token_values(logp, batch)).sum()
            (weights,) = torch.autograd.grad(total, logp)
        if not bool(torch.isfinite(weights).all()):
            d = reference_log_ratio(batch.logp, batch, self.reference)
            raise ValueError(
                f"the weights of {self!r} are not finite; log-ratios to the reference lie in "
                f"[{d.min().item():.6g}, {d.max().item():.6g}] and the largest to theta_old is "
                f"{batch.log_ratio.max().item():.6g}: keep theta closer to both"
            )
        return weights


@dataclass(frozen=True)
class kl_exact:
    """- beta sum_it scale[i] exp(v[i,t]) KL(pi_theta || pi_ref at s[i,t-1]), differentiated; v = ratio(l).

    A divergence of whole rows of logits at the visited states: no function of the sampled tokens. Its
    gradient is

        sum_it state_weights[i,t] grad KL(s[i,t-1]) + sum_it ratio_weights[i,t] grad log pi(a[i,t] | s[i,t-1])

    and the exact expectations add it; `token_weights` of an estimator that carries it is refused. `reference`
    is that of `kl_loss`: with "nothing", KL is minus the entropy of the row.
    """

    beta: float
    ratio: Ratio = none
    reference: str = GIVEN

    def __post_init__(self) -> None:
        check_beta(self.beta)
        check_reference_name(self.reference)

    def state_weights(
        self, logp: Float[Tensor, "*b G T"], batch: Batch, scale: Float[Tensor, "*b G"]
    ) -> Float[Tensor, "*b G T"]:
        """- beta scale[i] exp(v[i,t]), the factor in front of the divergence at s[i,t-1]; 0 on padding."""
        v = self.ratio((logp - batch.logp_old).where(batch.mask, 0.0), batch.mask)
        return (-self.beta * scale.to(logp.dtype)[..., None] * v.exp()).where(batch.mask, 0.0)

    def ratio_weights(
        self, batch: Batch, scale: Float[Tensor, "*b G"], divergence: Float[Tensor, "*b G T"]
    ) -> Float[Tensor, "*b G T"]:
        """d/d logp[i,t] of sum_it state_weights[i,t] divergence[i,t], the divergences held; by autograd."""
        logp = batch.logp.detach().where(batch.mask, 0.0).requires_grad_()
        with torch.enable_grad():
            total = (self.state_weights(logp, batch, scale) * divergence.where(batch.mask, 0.0)).sum()
        # The ratios `none` and `held` leave nothing to differentiate.
        return torch.autograd.grad(total, logp)[0] if total.requires_grad else torch.zeros_like(logp)

    def weights(self, batch: Batch, scale: Float[Tensor, "*b G"]) -> Float[Tensor, "*b G T"]:
        raise ValueError(
            f"{self!r} sums over the vocabulary at every visited state, and a Batch holds log-probabilities "
            f"of sampled tokens only: use expected_gradient(..., method='enumeration'), or build the loss "
            f"from full logits with state_weights and ratio_weights, or take kl_loss(k3, beta, token), which "
            f"estimates kl_exact(beta) where the scale does not depend on the length"
        )


@dataclass(frozen=True)
class kl_reward:
    """r[i] - beta sum_t k(logp_old[i,t] - logp_ref[i,t]): before group statistics, not differentiated.

    Penalised rewards that should be equal may differ by a rounding error: standardise them with delta > 0.
    """

    k: Divergence
    beta: float

    def __post_init__(self) -> None:
        check_beta(self.beta)

    def reward(self, batch: Batch, relative: bool = False) -> Float[Tensor, "*b G"]:
        """r[i] - beta sum_t k(d[i,t]), d = logp_old - logp_ref.

        `relative`: r counted from the least of the group, as a penalty has no digits beside a reward of 1e12.
        """
        k = self.k(reference_log_ratio(batch.logp_old, batch)).where(batch.mask, 0.0)
        r = batch.reward - batch.reward.amin(dim=-1, keepdim=True) if relative else batch.reward
        penalised = r - self.beta * k.sum(dim=-1)
        if not bool(torch.isfinite(penalised).all()):
            first = (~torch.isfinite(penalised)).nonzero()[0].tolist()
            d = reference_log_ratio(batch.logp_old, batch)
            raise ValueError(
                f"the penalised reward{first} is {penalised[tuple(first)].item()}; log-ratios of theta_old "
                f"to the reference lie in [{d.min().item():.6g}, {d.max().item():.6g}]: keep theta_old "
                f"closer to the reference"
            )
        return penalised


def entropy_bonus(beta: float) -> kl_exact:
    """+ beta sum_it scale[i] H(pi_theta at s[i,t-1]), the states as they were visited.

    E[its gradient] = beta sum_s E[sum_t scale 1{s}] grad H(s) by whoever draws; not the gradient of the
    entropy of responses, which moves the visits as well. The scale of the loss multiplies it.
    Source: arXiv:1602.01783 v2 (A3C), Sec. 4, with the scale of the estimator for a mean over states.
    """
    return kl_exact(beta, none, NOTHING)


Penalty = kl_loss | kl_exact | kl_reward
"""`kl_loss` and `kl_exact` are added to the gradient once; `kl_reward` passes through the advantage."""


def reads_of(penalty: Penalty | None) -> dict[str, tuple[object, Reads | None]]:
    """What the functions of a penalty declare that they read, by part."""
    if penalty is None:
        return {}
    if type(penalty) not in (kl_loss, kl_exact, kl_reward):
        return {"its penalty": (type(penalty), None)}
    found: dict[str, tuple[object, Reads | None]] = {}
    if not isinstance(penalty, kl_exact):
        found["the divergence of its penalty"] = (penalty.k, declared_call(penalty.k))
    if not isinstance(penalty, kl_reward):
        found["the ratio of its penalty"] = (penalty.ratio, declared_call(penalty.ratio))
    return found
