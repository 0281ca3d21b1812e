"""losses.py, every_group.py: what a loss may return for a group, and what is refused, with its group."""

import inspect
import math

import pytest
import torch

from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.advantages import centred
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.exact import expected_gradient, reuse_bias
from ticgrpo_theory.mdp import TokenMDP

TWO = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.5, 0.0])
OLD, THETA = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]], [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]


def expected(objective, group_size: int = 2, **options) -> torch.Tensor:
    return expected_gradient(TWO, THETA, OLD, objective, group_size, **options)


def pushed(batch: Batch) -> torch.Tensor:
    return ((batch.reward - batch.reward.mean()) * batch.log_ratio.sum(-1).exp()).mean()


def is_left_out(batch: Batch) -> bool:
    return float(batch.reward.min()) == 0


def masked(batch: Batch) -> torch.Tensor:
    """The same as one formula."""
    return pushed(batch) * (batch.reward.min() != 0)


LEFT_OUT = {
    "0.0": lambda batch: 0.0 if is_left_out(batch) else pushed(batch),
    "0": lambda batch: 0 if is_left_out(batch) else pushed(batch),
    "a tensor without a graph": lambda batch: torch.tensor(0.0) if is_left_out(batch) else pushed(batch),
    "(0.0, metrics)": lambda batch: (0.0, {}) if is_left_out(batch) else (pushed(batch), {"kl": 0.1}),
    "(value, metrics)": lambda batch: (masked(batch), {"kl": batch.log_ratio.mean()}),
    "a constant on top": lambda batch: masked(batch) + 3.0,
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_group_that_is_left_out_has_no_weights(name):
    found = expected(LEFT_OUT[name])
    torch.testing.assert_close(found, expected(masked), **EXACT)
    assert (found - expected(pushed)).abs().max() > MOVES


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_same_of_a_loss(name):
    def loss(logp, logp_old, advantages, mask):
        value = LEFT_OUT[name](Batch(logp, logp_old, advantages + 1, mask))
        return (-value[0], value[1]) if isinstance(value, tuple) else -value

    def one_formula(logp, logp_old, advantages, mask):
        return -masked(Batch(logp, logp_old, advantages + 1, mask))

    def rewards(reward):
        return reward - 1

    torch.testing.assert_close(
        expected(from_loss(loss, rewards)), expected(from_loss(one_formula, rewards)), **EXACT
    )


REFUSED = {
    "None": (lambda batch: None, r"returned None, which is no number; the group has rewards \["),
    "a vector": (lambda batch: batch.log_ratio.sum(-1), r"returned shape \(2,\) for one group; .* a scalar"),
    "NaN": (lambda batch: pushed(batch) * math.nan, r"the objective is nan; the group has rewards"),
    "a plain NaN": (lambda batch: math.nan, r"the objective is nan; the group has rewards"),
    "infinity": (lambda batch: pushed(batch) + math.inf, r"the objective is inf; the group has"),
    "complex": (lambda batch: pushed(batch).to(torch.complex128), r"torch.complex128: return a real number"),
    "bool": (lambda batch: is_left_out(batch), r"returned (True|False), which is no number"),
    "a string": (lambda batch: "0.0", r"returned '0.0', which is no number"),
    "an empty tuple": (lambda batch: (), r"returned \(\), which is no number"),
    "a gradient of NaN": (
        lambda batch: (batch.log_ratio - batch.log_ratio.detach()).abs().sum().sqrt(),
        r"gradient of the objective is nan at a token; the group has rewards",
    ),
    "a deviation of one reward": (
        lambda batch: (batch.reward / batch.reward.std() * batch.log_ratio.sum(-1)).sum(),
        r"a standard deviation with 1/\(G - 1\) is 0/0 for one reward",
    ),
    "equal rewards": (
        lambda batch: (batch.reward / batch.reward.std() * batch.log_ratio.sum(-1)).sum(),
        r"all its rewards are equal, where a division by their spread is 0/0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:std")
def test_what_is_no_objective_is_refused_with_the_group_and_the_reason(name):
    objective, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        expected(objective, 1 if name == "a deviation of one reward" else 2)


@pytest.mark.parametrize("value", [0.0, torch.tensor(2.0)])
def test_a_value_that_reads_no_log_probability_in_any_group_is_refused(value):
    with pytest.raises(ValueError, match=r"does not depend on batch.logp in any of the 16 groups"):
        expected(lambda batch: value)
    with pytest.raises(ValueError, match=r"does not depend on batch.logp in any"):
        expected(lambda batch: batch.reward.sum() + batch.logp_old.sum())


def test_an_exception_carries_the_place_in_the_users_file():
    def failing(batch: Batch) -> torch.Tensor:
        return batch.nothing

    line = inspect.getsourcelines(failing)[1] + 1
    with pytest.raises(
        ValueError, match=rf"AttributeError: .*{__file__}, line {line}, in failing\); the group"
    ):
        expected(failing)

    def only_where_rare(batch: Batch) -> torch.Tensor:
        if float(batch.reward.min()) == 1:
            raise RuntimeError("all rewards are 1")
        return pushed(batch)

    with pytest.raises(ValueError, match=r"RuntimeError: all rewards are 1 .*rewards \[1, 1\]"):
        expected(only_where_rare)


# The same door for reuse

TWO_PROMPTS = TokenMDP.mixture(
    [
        TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0]),
        TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, 0.5]),
    ],
    [0.25, 0.75],
    share_rows=False,
)
START = [[0.2, -0.1], [0.3, -0.2]]


def in_order(batch: Batch) -> torch.Tensor:
    """The first response pushes against the second."""
    w = batch.log_ratio.sum(-1).exp()
    return (batch.reward[0] - batch.reward[1]) * (w[0] - 0.5 * w[1])


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
def test_an_order_that_matters_is_noticed_in_reuse_over_several_prompts(batches, monkeypatch):
    # Otherwise so few groups are listed in every order from the start.
    for name in ("OUTRIGHT", "TOGETHER"):
        monkeypatch.setattr(f"ticgrpo_theory.exact.groups.every_group.{name}", 0)
    how = {"group_size": 2, "inner_steps": 1, "learning_rate": 0.5, "batches": batches}
    found = reuse_bias(TWO_PROMPTS, START, in_order, **how)
    ordered = reuse_bias(TWO_PROMPTS, START, in_order, **how, symmetric=False)
    trusted = reuse_bias(TWO_PROMPTS, START, in_order, **how, symmetric=True)
    for name in ("gradient", "target", "mse", "expected_return"):
        torch.testing.assert_close(getattr(found, name), getattr(ordered, name), **EXACT)
    assert (found.gradient - trusted.gradient).abs().max() > MOVES
    torch.testing.assert_close(
        found.gradient[0], expected_gradient(TWO_PROMPTS, START, START, in_order, 2), **EXACT
    )


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
def test_a_state_is_noticed_in_reuse(batches):
    calls = []

    def moody(batch: Batch) -> torch.Tensor:
        calls.append(float(batch.reward.sum()))
        return (1 + len(calls) % 2) * pushed(batch)

    with pytest.raises(ValueError, match="other token weights to the same group the second time"):
        reuse_bias(TWO_PROMPTS, START, moody, 2, 1, 0.5, batches=batches)


def test_a_loss_sees_the_advantages_that_it_is_given():
    def loss(logp, logp_old, advantages, mask):
        return -(advantages * ((logp - logp_old) * mask).sum(-1).exp()).mean()

    torch.testing.assert_close(expected(from_loss(loss, centred())), expected(pushed), **EXACT)
