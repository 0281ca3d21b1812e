"""Mistakes in token weights, in callables and in penalties."""

from functools import partial

from tests.mutants.mutants import Mutant
from tests.properties import test_token_weights
from tests.unit.estimators import (
    test_batch,
    test_catalogue,
    test_catalogue_lines,
    test_estimator,
    test_losses,
    test_penalties,
    test_products,
    test_shapes,
)
from tests.unit.exact.penalties import test_references
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import (
    catalogue,
    losses,
    one_group,
    penalties,
    products,
    scales,
    shapes,
    success_advantages,
    tapers,
)
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import k2, kl_loss
from ticgrpo_theory.estimators.ratios import none
from ticgrpo_theory.estimators.scales import sequence_sum

ESTIMATOR = [
    Mutant(
        "a penalty to the reference for one to theta_old",
        penalties.reference_table,
        "return batch.logp_old\n    if reference == NOTHING",
        "return batch.logp_ref\n    if reference == NOTHING",
        partial(test_references.check_literal, kl_loss(k2, 0.7, none, "old"), sequence_sum),
    ),
    Mutant(
        "a bonus that divides entropy by nothing of the loss",
        penalties.kl_exact.state_weights,
        "scale.to(logp.dtype)[..., None]",
        "torch.ones_like(scale)[..., None]",
        test_references.check_entropy,
    ),
    Mutant(
        "an inverse ratio for either sign",
        tapers.inverse_if_positive.free,
        "torch.where(positive, -v, v)",
        "-v",
        partial(test_catalogue_lines.check_line, "aspo"),
    ),
    Mutant(
        "a band that is as wide at every token",
        tapers.position_band.weights,
        "** self.power",
        "** 0.0",
        partial(test_catalogue_lines.check_line, "ctpo"),
    ),
    Mutant(
        "a gate that forgets the sampler",
        products.within.keeps,
        'if self.since == "sampler" and sampler_log_ratio is not None:',
        "if False:",
        partial(test_catalogue_lines.check_line, "opsm"),
    ),
    Mutant(
        "a taper of what is right as well",
        tapers.tapered.phi,
        ".where(~positive, 1.0)",
        "",
        partial(test_catalogue_lines.check_line, "topr"),
    ),
    Mutant(
        "rewards over the number of responses for their mean",
        success_advantages.over_mean.of_moments,
        "mean.where(varies, 1.0)",
        "(mean * group_size).where(varies, 1.0)",
        test_products.check_theorem_5,
    ),
    Mutant(
        "a mean over rows for one over tokens",
        success_advantages.group_centred_token_whitened.over,
        "length * kept",
        "kept.expand_as(reward)",
        partial(test_catalogue_lines.check_line, "verl_reinforce_pp_baseline"),
    ),
    Mutant(
        "a power of lengths with the other sign",
        scales.length_power.over,
        "** -self.alpha",
        "** self.alpha",
        partial(test_catalogue_lines.check_line, "delta_l"),
    ),
    Mutant(
        "a sigmoid gate with one temperature",
        shapes.sigmoid_gate.phi,
        "self.tau_positive, self.tau_negative",
        "self.tau_positive, self.tau_positive",
        partial(test_catalogue_lines.check_line, "sapo"),
    ),
    Mutant(
        "a gate that closes in either direction",
        shapes.divergence_gate.phi,
        "(D > self.high) & (v > 0)",
        "(D > self.high)",
        test_shapes.test_the_gate_closes_in_the_direction_of_the_advantage_only,
    ),
    Mutant(
        "the gamma weight of the other sign",
        shapes.gamma_weight.phi,
        "self.k_positive, self.k_negative",
        "self.k_negative, self.k_positive",
        partial(test_catalogue_lines.check_line, "vespo"),
    ),
    Mutant(
        "the deviation of a population where a trainer divides by G - 1",
        catalogue.trl_grpo,
        "loss_type(sequence_mean)",
        "loss_type(sequence_mean, advantage=standardised(1e-4))",
        partial(test_catalogue_lines.check_line, "trl_grpo"),
    ),
    Mutant(
        "a dropped response by its tokens",
        catalogue.trl_sequence_mask,
        'masked("sequence", None, clip_max)',
        'masked("token", None, clip_max)',
        partial(test_catalogue_lines.check_line, "trl_sequence_mask"),
    ),
    Mutant(
        "sign flipped",
        Estimator.response_weights,
        "(A[..., None] * weight)",
        "(-A[..., None] * weight)",
        partial(test_estimator.check_printed_objective, "grpo"),
    ),
    Mutant(
        "mask dropped",
        Estimator.response_weights,
        "mask & (A != 0)[..., None]",
        "(A != 0)[..., None]",
        partial(test_token_weights.check_padding, "no_is"),
    ),
    Mutant(
        "width of the table for the length",
        shapes.weights_of,
        "mask.sum(dim=-1)",
        "torch.full_like(mask.sum(dim=-1), mask.shape[-1])",
        partial(test_token_weights.check_wider, "tic_grpo_released"),
    ),
    Mutant(
        "lengths of all groups together",
        Estimator.scales,
        "length.sum(dim=-1, keepdim=True)",
        "length.sum()",
        partial(test_token_weights.check_leading_axes, "dapo"),
    ),
    Mutant(
        "weights left in the graph",
        Estimator.token_weights,
        "return c.detach()",
        "return c",
        partial(test_estimator.check_detached, "grpo"),
    ),
    Mutant(
        "overflow let through",
        Estimator.token_weights,
        "if not bool(torch.isfinite(c).all()):",
        "if False:",
        partial(test_token_weights.check_overflow, "grpo"),
    ),
    Mutant(
        "0 times minus infinity",
        Estimator.objective,
        "where(c != 0, 0.0)",
        "where(batch.mask, 0.0)",
        partial(test_token_weights.check_masked_token, "grpo"),
    ),
    Mutant(
        "log-ratio upside down",
        Batch.log_ratio.fget,
        "self.logp - self.logp_old",
        "self.logp_old - self.logp",
        test_batch.check_log_ratio_and_length,
    ),
    Mutant(
        "EOS left out of the length",
        Batch.length.fget,
        "self.mask.sum(dim=-1)",
        "self.mask.sum(dim=-1) - 1",
        test_batch.check_log_ratio_and_length,
    ),
    Mutant(
        "score of the stale gradient at theta",
        catalogue.stale,
        ", score=old",
        "",
        partial(test_catalogue.check_factory, catalogue.stale),
    ),
]

LOSSES = [
    Mutant(
        "a loss that is maximised",
        losses.from_loss.value,
        "-found if",
        "found if",
        partial(test_losses.check_loss_equals, *test_losses.EQUALS[0]),
    ),
    Mutant(
        "padding shown to callables",
        one_group.picked,
        'here.where(cut["mask"] | torch.isfinite(here), BLANK)',
        "here",
        test_losses.check_padding_is_blanked,
    ),
    Mutant(
        "k3 of the opposite log-ratio",
        penalties.k3,
        "torch.expm1(-d) + d",
        "torch.expm1(d) - d",
        partial(test_penalties.check_values, penalties.k3),
    ),
    Mutant(
        "k2 without its half",
        penalties.k2,
        "d.square() / 2",
        "d.square()",
        partial(test_penalties.check_values, penalties.k2),
    ),
    Mutant(
        "a penalty that rewards distance",
        penalties.kl_reward.reward,
        "penalised = r - self.beta",
        "penalised = r + self.beta",
        test_penalties.check_reward,
    ),
    Mutant(
        "penalised reward at theta",
        penalties.kl_reward.reward,
        "self.k(reference_log_ratio(batch.logp_old, batch))",
        "self.k(reference_log_ratio(batch.logp, batch))",
        test_penalties.check_reward,
    ),
]
