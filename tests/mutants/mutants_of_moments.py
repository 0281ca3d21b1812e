"""Mistakes in second moments: of one response, of two of a group, of prompts."""

from functools import partial

from tests.mutants.mutants import Mutant
from tests.properties import test_metamorphic, test_near_certain
from tests.unit.exact.moments import (
    test_estimator_moments,
    test_moments_reference,
    test_pairs,
    test_scores,
)
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.exact import known_scale
from ticgrpo_theory.exact.moments import local_moments, one_response, pairs, scores, spread
from ticgrpo_theory.exact.tree import tree_weights
from ticgrpo_theory.exact.updates import spreads
from ticgrpo_theory.worlds import policy

GRPO = partial(test_moments_reference.check_printed_second_moments, *test_moments_reference.R1[0], "auto")
TIC = partial(test_moments_reference.check_printed_second_moments, *test_moments_reference.R1[5], "auto")
GRPO_ONE_BY_ONE = partial(GRPO.func, *GRPO.args[:-1], "enumeration")
NO_IS = partial(test_moments_reference.check_printed_second_moments, *test_moments_reference.R1[7], "auto")
SHARED_ROW = partial(test_moments_reference.check_shared_row, *test_moments_reference.R10[1])
SHORT = partial(test_estimator_moments.check_fixed_length, ("grpo", "rloo"))

MOMENTS = [
    Mutant(
        "pairs of a group counted G times, not G - 1",
        spread.spread,
        "(1 - 1 / G) * covariance",
        "covariance",
        GRPO,
    ),
    Mutant(
        "second moment taken for the variance",
        spread.spread,
        "(squares.norm - square) / G",
        "squares.norm / G",
        test_estimator_moments.check_two_responses_and_two_tokens,
    ),
    Mutant(
        "noise between prompts left out",
        spreads.independent,
        "(one.variance + float((one.mean - mean).square().sum()))",
        "one.variance",
        test_estimator_moments.check_prompts,
    ),
    Mutant(
        "sample size of a group of one",
        one_response.effective_sample_size,
        "group_size * weight",
        "weight",
        test_estimator_moments.check_importance_weights,
    ),
    Mutant(
        "sums of weights in the sample size not squared",
        one_response.effective_sample_size,
        "weight / tokens * weight / square",
        "weight / square",
        test_estimator_moments.check_importance_weights,
    ),
    Mutant(
        "scale of a response not squared",
        pairs.squared,
        "channels.scale**2",
        "channels.scale",
        GRPO,
    ),
    Mutant(
        "signs of two advantages taken to be equal",
        pairs.merge_pairs,
        "products.sum(axis=(0, 1))",
        "products[0, 0] + products[1, 1]",
        TIC,
    ),
    Mutant(
        "eigenvectors not divided by what the table was multiplied by",
        pairs.reduced,
        "vectors.T[kept] / weight",
        "vectors.T[kept]",
        test_pairs.check_many_reward_values,
    ),
    Mutant(
        "rest of the group one larger in the square of a linear advantage",
        pairs.linear,
        "(G - 1) * q**2",
        "G * q**2",
        SHORT,
    ),
    Mutant(
        "rest of the group one larger in the product of linear advantages",
        pairs.linear,
        "(G - 2) * q**2",
        "(G - 1) * q**2",
        SHORT,
    ),
    Mutant(
        "ratio of weight 1 taken at theta",
        one_response.policies,
        "pi_old if estimator.ratio is ratios.none else pi",
        "pi",
        NO_IS,
    ),
    Mutant(
        "pairs of tokens in one order only",
        one_response.by_dynamic_programming,
        "norm += 2 * repeated_rows",
        "norm += repeated_rows",
        SHARED_ROW,
    ),
    Mutant(
        "scores of two tokens without their mean",
        scores.product,
        " - p_a - p_b",
        "",
        SHARED_ROW,
    ),
    Mutant(
        "the nearly certain token told from 1 by its own probability",
        scores.product,
        "torch.where(is_a & is_b, c**2 + q,",
        "torch.where(is_a & is_b, plain,",
        test_scores.check_nearly_certain,
    ),
    Mutant(
        "rewards taken as they are, not by their differences",
        Advantage.__call__,
        "reward - reward.amin(dim=-1, keepdim=True)",
        "reward",
        test_metamorphic.check_groups_far_from_zero,
    ),
    Mutant(
        "a nearly certain token pulled back by its own difference",
        policy.pull_back,
        "scatter(-1, top, -pulled.sum(dim=-1, keepdim=True))",
        "scatter(-1, top, (weights - pi * weights.sum(dim=-1, keepdim=True)).gather(-1, top))",
        test_near_certain.check_pull_back,
    ),
    Mutant(
        "tokens between a pair not reweighted twice",
        one_response.edges,
        "Measure(squared, squared, squared), squared, squared, squared",
        "Measure(squared, squared, squared), squared, pi, squared",
        SHARED_ROW,
    ),
    Mutant(
        "scores of different rows multiplied",
        one_response.score_products,
        "(rows[:, :, None] == rows[:, None, :]) & mask",
        "mask",
        GRPO_ONE_BY_ONE,
    ),
    Mutant(
        "bounds of squared weights not squared",
        tree_weights.response_weights,
        ".power(power)",
        "",
        TIC,
    ),
    Mutant(
        "squared weights of a tree not squared",
        tree_weights.response_weights,
        "power * pooled",
        "pooled",
        TIC,
    ),
    Mutant(
        "scale left out where rows are local",
        local_moments.local_moments,
        "pairs.mean * scale",
        "pairs.mean",
        SHORT,
    ),
    Mutant(
        "entries below the diagonal counted once",
        local_moments.local_moments,
        "np.tril(channels.covariance) + np.tril(channels.covariance, -1)",
        "np.tril(channels.covariance)",
        SHORT,
    ),
    Mutant(
        "known scale without 1/T",
        known_scale.prompt_scale,
        "return kappa *",
        "return",
        SHARED_ROW,
    ),
]
