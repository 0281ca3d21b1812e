"""estimator.py: token weights against the oracle and the printed objectives, and every axis and knob."""

import dataclasses
import inspect
import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.instances.probe import PROBE
from tests.oracles import weights as oracle_weights
from tests.oracles.test_literal import HORIZON, KNOBS, RESPONSES, derivative, group_of
from tests.properties.strategies import GroupCase, eighths, groups, padded, ragged
from tests.properties.tolerances import DIFFERENCED, EXACT, MOVES, SAME_BITS
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS, Estimator, catalogue
from ticgrpo_theory.estimators.advantages import leave_one_out, raw, standardised
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.clipping import saturating, two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.corrections import masked, rejected, truncated
from ticgrpo_theory.estimators.estimator import current, old
from ticgrpo_theory.estimators.filters import overlong
from ticgrpo_theory.estimators.penalties import k3, kl_loss, kl_reward
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import constant, sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.worlds.policy import pull_back

NAMES = sorted(FIRST)


def oracle(name: str, case: GroupCase) -> list[list[float]]:
    """The oracle's token weights; `gspo_narrow` is its gspo with another clip."""
    if name == "gspo_narrow":
        return oracle_weights.gspo(case.members, case.horizon, eps_low=3e-4, eps_high=4e-4)
    return oracle_weights.token_weights(name, case.members, case.horizon)


def assert_rows_close(found: list[list[float]], expected: list[list[float]], tolerance: dict) -> None:
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, abs=tolerance["atol"], rel=tolerance["rtol"])


def check_printed_objective(name: str) -> None:
    """Token weights on PROBE are the central differences of the objective that the paper prints."""
    if name == "gspo_narrow":
        expected = derivative("gspo", group_of(RESPONSES), eps_low=3e-4, eps_high=4e-4)
    else:
        expected = derivative(name, group_of(RESPONSES))
    found = ragged(ESTIMATORS[name].token_weights(PROBE), PROBE.mask)
    assert_rows_close(found, expected, DIFFERENCED)


@pytest.mark.parametrize("name", NAMES)
def test_token_weights_are_the_derivative_of_the_printed_objective(name):
    check_printed_objective(name)


@pytest.mark.parametrize("name", NAMES)
@given(case=groups(min_size=2))
def test_token_weights_are_those_of_the_oracle_for_any_group(name, case):
    batch = case.batch
    found = ESTIMATORS[name].token_weights(batch)
    assert_rows_close(ragged(found, batch.mask), oracle(name, case), EXACT)
    assert bool((found[~batch.mask] == 0).all())


@given(
    st.sampled_from([name for name in NAMES if "leave_one_out" not in ESTIMATORS[name].describe()]),
    groups(1, 1),
)
def test_a_group_of_one_agrees_with_the_oracle_too(name, case):
    batch = case.batch
    found = ragged(ESTIMATORS[name].token_weights(batch), batch.mask)
    assert_rows_close(found, oracle(name, case), EXACT)


# What the oracle calls the parameters of the factories.
RENAMED = {
    "tic_grpo_released": {"growth": "rate", "dual": "cap", "cap": "log_limit"},
    "seq_clip": {"dual": "cap", "cap": "log_limit"},
}


@pytest.mark.parametrize("name, params", KNOBS)
def test_every_knob_moves_the_weights_as_it_moves_the_printed_objective(name, params):
    ours = {RENAMED.get(name, {}).get(key, key): value for key, value in params.items()}
    if name == "gmpo" and "eps" in ours:
        ours["lower"] = ours["upper"] = ours.pop("eps")
    weights = getattr(catalogue, name)(**ours).token_weights(PROBE)
    assert_rows_close(
        ragged(weights, PROBE.mask), derivative(name, group_of(RESPONSES), **params), DIFFERENCED
    )
    assert float((weights - ESTIMATORS[name].token_weights(PROBE)).abs().max()) > MOVES


MOVED = {"delta": 0.3, "eps_low": 0.6, "eps_high": 0.9, "lower": 0.8, "upper": 0.55, "rate": 0.08}
MOVED |= {"cap": 6.0, "log_limit": 0.9}
FACTORY_KNOBS = [
    (factory.__name__, knob)
    for factory in catalogue.FACTORIES
    if factory.__name__ in FIRST
    for knob in inspect.signature(factory).parameters
]


def check_knob(name: str, knob: str) -> None:
    weights = getattr(catalogue, name)(**{knob: MOVED[knob]}).token_weights(PROBE)
    assert float((weights - ESTIMATORS[name].token_weights(PROBE)).abs().max()) > MOVES


@pytest.mark.parametrize("name, knob", FACTORY_KNOBS)
def test_every_knob_of_every_factory_is_read(name, knob):
    check_knob(name, knob)


def group_gradient(estimator: Estimator, batch: Batch) -> torch.Tensor:
    """g_hat of a group whose every token is token 0 of a logits row of its own, V = 2.

    Probabilities are those of the batch times 1/e, so that they stay below 1.
    """
    lower = (batch.logp - 1, batch.logp_old - 1)
    theta, theta_old = (torch.stack([x, torch.log1p(-x.exp())], dim=-1)[batch.mask] for x in lower)
    c = estimator.token_weights(batch)[batch.mask]
    return pull_back(torch.stack([c, torch.zeros_like(c)], dim=-1), estimator.score(theta, theta_old))


CUT = torch.arange(len(PROBE.reward)) > 0
REFERENCE = dataclasses.replace(
    PROBE,
    logp_ref=PROBE.logp_old - 1.0,
    truncated=CUT,
    logp_sampler=PROBE.logp_old - torch.linspace(0, 0.5, PROBE.mask.shape[-1]),
)
BASE = ESTIMATORS["grpo"]
SWAPS = {
    "ratio": [none, prefix, trajectory, geometric_mean],
    "advantage": [standardised(1e-6, ddof=1), leave_one_out(), raw()],
    "clip": [unclipped(), upper_only(0.2), saturating(two_sided(0.2, 0.2))],
    "scale": [token_mean, sequence_sum, constant],
    "score": [old],
    "penalty": [kl_loss(k3, 0.1), kl_reward(k3, 0.1)],
    "correction": [truncated("token", None, 1.1), masked("sequence"), rejected("geometric", None, 1.0)],
    "filter": [overlong("mask"), overlong("penalty", limit=3, cache=2)],
}


def check_axis(axis: str, other: object) -> None:
    swapped = dataclasses.replace(BASE, **{axis: other})
    gap = (group_gradient(swapped, REFERENCE) - group_gradient(BASE, REFERENCE)).abs().max()
    assert float(gap) > MOVES


@pytest.mark.parametrize(
    "axis, other", [(axis.name, other) for axis in fields(Estimator) for other in SWAPS[axis.name]]
)
def test_every_axis_changes_the_number(axis, other):
    check_axis(axis, other)


@pytest.mark.parametrize("name", NAMES)
def test_the_objective_has_the_token_weights_as_its_gradient(name):
    logp = PROBE.logp.clone().requires_grad_()
    batch = dataclasses.replace(PROBE, logp=logp)
    ESTIMATORS[name].objective(batch).backward()
    torch.testing.assert_close(logp.grad, ESTIMATORS[name].token_weights(PROBE), **SAME_BITS)


def check_detached(name: str) -> None:
    """On-policy trainers pass one tensor as logp and as logp_old: the gradient is c all the same."""
    logp = PROBE.logp.clone().requires_grad_()
    batch = dataclasses.replace(PROBE, logp=logp, logp_old=logp)
    assert not ESTIMATORS[name].token_weights(batch).requires_grad
    ESTIMATORS[name].objective(batch).backward()
    plain = dataclasses.replace(PROBE, logp_old=PROBE.logp)
    torch.testing.assert_close(logp.grad, ESTIMATORS[name].token_weights(plain), **SAME_BITS)


@pytest.mark.parametrize("name", NAMES)
def test_one_tensor_as_current_and_old_log_probabilities_keeps_its_gradient(name):
    check_detached(name)


def check_equal_rewards(name: str) -> None:
    batch = dataclasses.replace(PROBE, reward=torch.full_like(PROBE.reward, 0.1))
    assert bool((ESTIMATORS[name].token_weights(batch) == 0).all())


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"reinforce"}))
def test_a_group_of_equal_rewards_gives_exactly_zero(name):
    check_equal_rewards(name)


def test_reinforce_has_no_baseline_and_does_not():
    with pytest.raises(AssertionError):
        check_equal_rewards("reinforce")


@given(st.sampled_from(NAMES), groups(), eighths(0.125, 3))
def test_weights_are_homogeneous_in_the_advantage_for_each_sign(name, case, factor):
    batch, estimator = case.batch, ESTIMATORS[name]
    for sign in (1.0, -1.0):
        A = torch.full_like(batch.reward, sign)
        unit = estimator.response_weights(batch.log_ratio, A, batch.mask)
        found = estimator.response_weights(batch.log_ratio, factor * A, batch.mask)
        torch.testing.assert_close(found, factor * unit, **EXACT)


@given(groups(min_size=2))
def test_unclipped_ratios_coincide_for_responses_of_one_token(case):
    short = padded([(logp[:1], logp_old[:1], r) for logp, logp_old, r in case.members], case.horizon)
    for clip in (unclipped(), upper_only(0.28)):
        weights = [
            Estimator(ratio, standardised(), clip, sequence_mean).token_weights(short)
            for ratio in (token, prefix, trajectory, geometric_mean)
        ]
        for other in weights[1:]:
            torch.testing.assert_close(other, weights[0], **SAME_BITS)


def test_the_score_of_stale_is_taken_at_theta_old_and_of_all_others_at_theta():
    assert [name for name in NAMES if ESTIMATORS[name].score is not current] == ["stale"]
    gap = group_gradient(ESTIMATORS["stale"], PROBE) - group_gradient(ESTIMATORS["no_is"], PROBE)
    assert float(gap.abs().max()) > MOVES


def test_an_estimator_describes_itself_by_its_formulas():
    expected = (
        "ratio=token, advantage=standardised(delta=1e-06, ddof=0), "
        "clip=two_sided(eps_low=0.2, eps_high=0.2), scale=sequence_mean"
    )
    assert BASE.describe() == expected
    assert ESTIMATORS["stale"].describe().endswith("scale=sequence_mean, score=old")


def test_leave_one_out_on_a_group_of_one_and_a_missing_limit_are_refused():
    alone = padded(group_of(RESPONSES)[:1], HORIZON)
    for name in ("rloo", "trajectory_is", "prefix_is"):
        with pytest.raises(
            ValueError, match=r"leave_one_out\(\) is undefined for a group of 1; .* group_size >= 2"
        ):
            ESTIMATORS[name].token_weights(alone)
    with pytest.raises(
        ValueError, match=r"horizon = None: the scale `constant` divides by the response limit"
    ):
        ESTIMATORS["dr_grpo"].token_weights(dataclasses.replace(PROBE, horizon=None))


def test_bad_numbers_are_refused_before_any_weight_is_made():
    with pytest.raises(ValueError, match=r"reward\[0\] = nan is not finite"):
        BASE.token_weights(dataclasses.replace(PROBE, reward=PROBE.reward * math.nan))
    with pytest.raises(ValueError, match=r"response \[0\] \(index over \*b, G\) is empty"):
        BASE.token_weights(dataclasses.replace(PROBE, mask=torch.zeros_like(PROBE.mask)))
