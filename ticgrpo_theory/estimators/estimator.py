"""An estimator is one choice on each axis; its token weights are the only thing that anyone else reads.

    l = logp - logp_old                                    token log-ratios                    [*b, G, T]
    A = advantage(reward)                                                                      [*b, G]
    lo, hi = clip.bounds(A >= 0, length)                   in log space, by sign of A          [*b, G]
    v = ratio(l, mask)                                     pooled log-ratio at every token     [*b, G, T]
    c = scale(length, ...) * A * phi * exp(clamp(v, lo, hi)) * (lo <= v <= hi)             [*b, G, T]
    g_hat = sum_it c[i,t] grad log pi(a[i,t] | s[i,t-1])

phi is 1 without a `correction` for the sampler.

Own-token rule: v may depend on other tokens of the response, but c[i,t] weighs the score of its own token.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ticgrpo_theory.estimators import shapes
from ticgrpo_theory.estimators.advantage import UpdateAdvantage, reads_differences, reads_of
from ticgrpo_theory.estimators.advantages import Advantage, needs_moments, raw
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.clipping import Clip
from ticgrpo_theory.estimators.corrections import Correction
from ticgrpo_theory.estimators.filters import Filter
from ticgrpo_theory.estimators.one_group import Apart, tensors_of
from ticgrpo_theory.estimators.penalties import Penalty, kl_exact, kl_loss, kl_reward
from ticgrpo_theory.estimators.penalties import reads_of as reads_of_penalty
from ticgrpo_theory.estimators.properties import BLACK_BOX, Properties, declared, of_parts
from ticgrpo_theory.estimators.ratios import Ratio
from ticgrpo_theory.estimators.scales import Scale, kept, sequence_sum
from ticgrpo_theory.estimators.updates import check_parts, reads_update, update_scale, weights_of_update
from ticgrpo_theory.inputs.numbers import shown

Table = TypeVar("Table")


@runtime_checkable
class Score(Protocol):
    """The policy through whose logits the weights are pulled back."""

    def __call__(self, theta: Table, theta_old: Table) -> Table: ...


def current(theta: Table, theta_old: Table) -> Table:
    """grad log pi is taken at theta."""
    return theta


def old(theta: Table, theta_old: Table) -> Table:
    """grad log pi is taken at theta_old: the gradient of the first inner step, held."""
    return theta_old


@dataclass(frozen=True)
class Estimator:
    """g_hat = sum_it c[i,t] grad log pi(a[i,t] | s[i,t-1]) [S, V], c [G, T] from the axes below; ascended.

    Its expectation is a multiple of grad J, or of another gradient, that depends on the axes: `known_scale`
    gives that multiple. A weight that is not finite raises ValueError.
    Source: arXiv:2508.02833 v2, Eq. 5 and 9; that of each choice stands where the choice is defined.
    """

    ratio: Ratio
    """How token log-ratios are pooled."""
    advantage: Advantage | UpdateAdvantage
    """From the rewards of the group, or of the update, to A."""
    clip: Clip
    """Where a weight is switched off, or held."""
    scale: Scale
    """The factor in front of each response."""
    score: Score = current
    """At which policy the score is taken."""
    penalty: Penalty | None = None
    """Distance to a reference policy, in the loss or in the reward."""
    correction: Correction | None = None
    """What makes up for a sampler that is not theta_old; reads logp_sampler."""
    filter: Filter | None = None
    """Which groups or responses of an update are left out."""

    def __post_init__(self) -> None:
        for name in ("ratio", "advantage", "scale", "score"):
            part = getattr(self, name)
            if isinstance(part, type) or not callable(part):
                raise ValueError(
                    f"{name} = {shown(part)} is no function: give one of ticgrpo_theory.estimators, classes "
                    f"with their parameters as in standardised(), or a function of your own"
                )
        if not isinstance(self.clip, Clip):
            raise ValueError(
                f"clip = {shown(self.clip)} is no Clip: give one of ticgrpo_theory.estimators.clipping with "
                f"its parameters, such as unclipped() or two_sided(0.2, 0.2)"
            )
        if self.correction is not None and not isinstance(self.correction, Correction):
            raise ValueError(
                f"correction = {shown(self.correction)} is no Correction: give one of "
                f"ticgrpo_theory.estimators.corrections, such as truncated('token', None, 2.0)"
            )
        check_parts(self)
        if isinstance(self.penalty, kl_reward) and needs_moments(self.advantage):
            raise ValueError(
                f"{self.advantage!r} takes mu and sigma of the reward of the world, and {self.penalty!r} "
                f"changes the rewards: give known_moments(mu, sigma) of the penalised reward, or an "
                f"advantage that reads the group"
            )

    def advantages(self, batch: Batch) -> Float[Tensor, "*b G"]:
        """A = advantage(reward), the reward penalised first where the penalty lives in the reward.

        Raises ValueError where A is that of a whole update.
        """
        self._refuse_parts_of_updates()
        if not isinstance(self.penalty, kl_reward):
            return self.advantage(batch.reward)
        return self.advantage(self.penalty.reward(batch, reads_differences(self.advantage)))

    def response_weights(
        self,
        log_ratio: Float[Tensor, "*b G T"],
        A: Float[Tensor, "*b G"],
        mask: Bool[Tensor, "*b G T"],
        sampler_log_ratio: Float[Tensor, "*b G T"] | None = None,
        logp_old: Float[Tensor, "*b G T"] | None = None,
    ) -> Float[Tensor, "*b G T"]:
        """A[i] phi exp(clamp(v, lo, hi)) (lo <= v <= hi): everything but scale and penalty; 0 on padding.

        Without `sampler_log_ratio` theta_old is the sampler, and a correction sees ratios W = 1. A shape
        (shapes.py), which may read `logp_old`, takes the place of clamp and gate.
        Positively homogeneous in A for each sign: c(A) = max(A, 0) c(1) + max(-A, 0) c(-1).
        """
        read = (self.ratio, log_ratio, mask, A >= 0, logp_old, sampler_log_ratio)
        weight = shapes.weights_of(self.clip, *read)
        if self.correction is not None:
            d = torch.zeros_like(log_ratio) if sampler_log_ratio is None else sampler_log_ratio
            phi = self.correction.weight(d, mask)
            # A masked token has the weight 0, also where an unclipped ratio overflows to inf.
            weight = (weight * phi).where(phi != 0, 0.0)
        # A = 0 gives exactly 0, also where an unclipped weight overflows to inf.
        return (A[..., None] * weight).where(mask & (A != 0)[..., None], 0.0)

    def scales(self, mask: Bool[Tensor, "*b G T"], horizon: int | None = None) -> Float[Tensor, "*b G"]:
        """scale[i] of every response of the groups. Raises ValueError where it is that of a whole update."""
        self._refuse_parts_of_updates()
        length = mask.sum(dim=-1)
        return self.scale(length, length.sum(dim=-1, keepdim=True), length.shape[-1], horizon)

    @cached_property
    def properties(self) -> Properties:
        """What the token weights read, from the declarations of the parts."""
        if type(self).token_weights is not Estimator.token_weights or type(self) is not Estimator:
            return dataclasses.replace(BLACK_BOX, undeclared=(f"the class {type(self).__name__}",))
        if self.reads_update:
            # A group does not determine its weights: whoever looks at groups alone must not reduce them.
            return dataclasses.replace(BLACK_BOX, undeclared=("a part that reads the whole update",))
        weights = {**self.clip.declarations(self.ratio), **reads_of_penalty(self.penalty)}
        if self.correction is not None:
            found = declared(type(self.correction).log_weight, self.correction)
            weights["its correction"] = (self.correction, found)
        return of_parts(weights, (self.advantage, reads_of(self.advantage)), self.scale)

    def token_weights(self, batch: Batch) -> Float[Tensor, "*b G T"]:
        """c[i,t] of every token, detached; 0 on padding.

        Parts that declare nothing see one group at a time, as wide as its longest response.

        Raises ValueError for empty responses, non-finite rewards or log-probabilities, an advantage undefined
        for the group size, a missing reference or horizon, and a weight too large for the dtype.
        """
        batch = dataclasses.replace(batch, logp=batch.logp.detach())
        batch.check()
        if isinstance(self.advantage, Advantage):
            self.advantage.check_group(batch.reward.shape[-1])
        c = self.formula(batch) if self.properties.known else self.apart()(batch)
        if not bool(torch.isfinite(c).all()):
            self._refuse_overflow(batch, c)
        # On-policy callers pass one tensor as logp and logp_old; its graph must not come back through c.
        return c.detach()

    @property
    def of_each_row(self) -> "Estimator":
        """The same ratio, clip and score, with an advantage and a scale that read no other row."""
        return dataclasses.replace(self, advantage=raw(), scale=sequence_sum, filter=None)

    @property
    def reads_update(self) -> bool:
        """Whether a group's weights depend on the other groups of its update, or on which those are."""
        return reads_update(self)

    def update_weights(self, batch: Batch) -> Float[Tensor, "*b P G T"]:
        """c[p,i,t] of whole updates of P groups, detached; 0 on padding.

        Without parts that read the update it is `token_weights` / P; with P = 1 always `token_weights`.
        Raises ValueError as `token_weights`, and for a batch without the axis P.
        """
        if batch.logp.ndim < 3:
            raise ValueError(
                f"logp has shape {tuple(batch.logp.shape)}; an update has the axes (P, G, T): add an axis P "
                f"of length 1 for a single group"
            )
        if not self.reads_update:
            return self.token_weights(batch) / batch.logp.shape[-3]
        self._refuse_undeclared()
        batch = dataclasses.replace(batch, logp=batch.logp.detach())
        batch.check()
        if isinstance(self.advantage, Advantage):
            self.advantage.check_group(batch.reward.shape[-1])
        c = weights_of_update(self, batch)
        if not bool(torch.isfinite(c).all()):
            self._refuse_overflow(batch, c)
        return c.detach()

    def formula(self, batch: Batch) -> Float[Tensor, "*b G T"]:
        """c[i,t], unchecked. Raises ValueError for advantages that are no number for each response."""
        if self.reads_update:
            self._refuse_undeclared()
            return weights_of_update(self, batch.as_update())[..., 0, :, :]
        A = self.advantages(batch)
        if A.shape != batch.reward.shape:
            raise ValueError(
                f"the advantage {self.advantage!r} gave shape {tuple(A.shape)} for rewards of shape "
                f"{tuple(batch.reward.shape)}: give one number for each response; advantages of tokens go "
                f"into from_loss(loss, advantage)"
            )
        scale = self.scales(self.counted(batch), batch.horizon).to(batch.logp.dtype)
        A, d = A.to(batch.logp.dtype), batch.sampler_log_ratio
        c = scale[..., None] * self.response_weights(batch.log_ratio, A, batch.mask, d, batch.logp_old)
        if isinstance(self.penalty, kl_loss | kl_exact):
            c = c + self.penalty.weights(batch, scale)
        return c

    def counted(self, batch: Batch) -> Bool[Tensor, "*b G T"]:
        """The tokens that lengths count: those that the correction keeps, for a scale `kept`; else all.

        Raises ValueError where the correction has no log-probabilities of the sampler to read.
        """
        if self.correction is None:
            return batch.mask
        if batch.sampler_log_ratio is None:
            raise ValueError(
                f"the correction {self.correction!r} compares theta_old with the sampler: give "
                f"Batch(..., logp_sampler=...), the log-probabilities that the sampler returned"
            )
        if not isinstance(self.scale, kept):
            return batch.mask
        return self.correction.keeps(batch.sampler_log_ratio, batch.mask)

    def apart(self) -> Apart:
        """The token weights, one group at a time."""
        return Apart(alone=self.formula, inside=self.formula, depends=True)

    def objective(self, batch: Batch) -> Float[Tensor, ""]:
        """sum_it c[i,t].detach() logp[i,t]: its gradient through logp is g_hat; summed over leading axes."""
        c = self.token_weights(batch)
        # A masked token has logp = -inf and c = 0: leave it out, 0 * -inf is NaN.
        return (c * batch.logp.where(c != 0, 0.0)).sum()

    def describe(self) -> str:
        """The axes in one line, by the names of the formulas."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not (field.name == "score" and value is current):
                parts.append(f"{field.name}={getattr(value, '__name__', None) or repr(value)}")
        return ", ".join(parts)

    def _refuse_parts_of_updates(self) -> None:
        if self.reads_update:
            raise ValueError(
                f"the estimator ({self.describe()}) reads whole updates: its advantages and scales are no "
                f"numbers of one group; take update_weights(batch), or token_weights(batch) where the group "
                f"is the whole update"
            )

    def _refuse_undeclared(self) -> None:
        """Raise ValueError for parts that nobody has checked on more than one group at a time."""
        scale = sequence_sum if update_scale(self.scale) is not None else self.scale
        advantage = raw() if isinstance(self.advantage, UpdateAdvantage) else self.advantage
        each = dataclasses.replace(self, advantage=advantage, scale=scale, filter=None).properties
        if not each.known:
            why = each.why_unknown() or "its parts are not of this package"
            raise ValueError(
                f"the estimator ({self.describe()}) reads whole updates, and {why}: compose it of parts of "
                f"this package, or write the objective of the update as a callable and give scope='batch'"
            )

    def _refuse_overflow(self, batch: Batch, c: Tensor) -> None:
        bad = (~torch.isfinite(c)).nonzero()[0].tolist()
        group = dataclasses.replace(batch, **{n: x[tuple(bad[:-2])] for n, x in tensors_of(batch).items()})
        positive = self.reads_update or float(self.advantages(group)[bad[-2]]) >= 0
        sign = "A of either sign" if self.reads_update else "A >= 0" if positive else "A < 0"
        pooled = self.ratio(batch.log_ratio, batch.mask)
        raise ValueError(
            f"a token weight of the estimator ({self.describe()}) overflows {c.dtype} at index {bad} "
            f"({sign}); the largest pooled log-ratio is {pooled.max().item():.6g}: this clip does not bound "
            f"it from above, so use a clip that does (upper_only, dual) or keep theta closer to theta_old"
        )
