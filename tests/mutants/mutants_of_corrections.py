"""Mistakes in what makes up for a sampler, and in who draws."""

from functools import partial

from tests.mutants.mutants import Mutant
from tests.properties import test_three_policies as three
from ticgrpo_theory.estimators import corrections, ratios
from ticgrpo_theory.estimators.advantages import centred, leave_one_out
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.corrections import Bounded, masked, rejected, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import kept, sequence_sum, token_mean
from ticgrpo_theory.exact.dynamic import measures
from ticgrpo_theory.exact.responses.enumeration import Policies, Responses


def check_of(ratio, correction, scale=sequence_sum, advantage=None):
    """Every method against the sum over groups, for one estimator."""
    A = leave_one_out() if advantage is None else advantage
    estimator = Estimator(ratio, A, unclipped(), scale, correction=correction)
    return partial(three.check, estimator, three.THETA, three.OLD, three.SAMPLER)


CORRECTIONS = [
    Mutant(
        "truncated from below only",
        truncated.log_weight,
        "clamp(*self.log_bounds)",
        "clamp(min=self.log_bounds[0])",
        check_of(ratios.token, truncated("sequence", None, 1.1)),
    ),
    Mutant(
        "a mask that holds instead",
        masked.log_weight,
        "v.where(self.inside(v), -math.inf)",
        "v.clamp(*self.log_bounds)",
        check_of(ratios.token, masked("sequence", None, 1.1)),
    ),
    Mutant(
        "a rejection that multiplies by the ratio",
        rejected.log_weight,
        "torch.zeros_like(v)",
        "v",
        check_of(ratios.token, rejected("geometric", 0.9, 1.1)),
    ),
    Mutant(
        "the sampler over theta_old",
        Batch.sampler_log_ratio.fget,
        "self.logp_old - self.logp_sampler",
        "self.logp_sampler - self.logp_old",
        check_of(ratios.none, truncated("token", None, 1.1)),
    ),
    Mutant(
        "the same in a list of responses",
        Responses.sampler_log_ratio.fget,
        "self.logp_old - self.logp_sampler",
        "self.logp_sampler - self.logp_old",
        check_of(ratios.none, truncated("token", None, 1.1)),
    ),
    Mutant(
        "theta_old draws although there is a sampler",
        Policies.drawn_from.fget,
        "self.theta_old if self.theta_sampler is None else self.theta_sampler",
        "self.theta_old",
        check_of(ratios.token, None),
    ),
    Mutant(
        "masked tokens count in a scale that counts what is kept",
        Estimator.counted,
        "self.correction.keeps(batch.sampler_log_ratio, batch.mask)",
        "batch.mask",
        check_of(ratios.token, masked("token", 0.8, 1.2), kept(token_mean), centred()),
    ),
    Mutant(
        "all responses count in a scale that counts what is kept",
        kept.__call__,
        "some.sum(dim=-1, keepdim=True)",
        "some.shape[-1] * torch.ones_like(length)",
        check_of(ratios.token, masked("sequence", 0.9, 1.1), kept(sequence_sum), centred()),
    ),
    Mutant(
        "a correction of the response forgotten in its tables",
        measures.factors_of,
        "whole.append(to_sampler)",
        "pass",
        check_of(ratios.token, truncated("sequence")),
    ),
    Mutant(
        "the bounds of W exchanged",
        Bounded.log_bounds.fget,
        "return lo, math.inf if self.hi is None else math.log(self.hi)",
        "return lo, math.inf",
        check_of(ratios.token, truncated("token", None, 1.1)),
    ),
    Mutant(
        "the mean of the token ratios for the largest",
        corrections.largest,
        "amax(dim=-1, keepdim=True)",
        "amin(dim=-1, keepdim=True)",
        check_of(ratios.token, rejected("largest", None, 1.2)),
    ),
]
