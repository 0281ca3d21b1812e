"""Bad requests are refused with value, limit and way out; what becomes non-finite is frozen alone."""

import math
from dataclasses import replace

import pytest
import torch

from tests.properties.tolerances import EXACT, SAME_BITS
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.estimators.losses import Objective
from ticgrpo_theory.estimators.penalties import k3, kl_exact, kl_loss
from ticgrpo_theory.estimators.scales import batch_token_mean
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import Adam, prompt_graphs, simulate
from ticgrpo_theory.worlds import WORLDS

RUN = {"group_size": 4, "learning_rate": 0.5, "inner_steps": 2, "outer_steps": 3, "replicates": 2}
XOR = WORLDS["xor"].build()

REFUSED = {
    "learning_rate = 0.0": (
        {"learning_rate": 0.0},
        r"learning_rate = 0.0: a step size must be > 0 and finite",
    ),
    "negative": ({"learning_rate": -1.0}, r"learning_rate = -1.0: .* gradients are ascended"),
    "nan": ({"learning_rate": math.nan}, r"learning_rate = nan: .* > 0 and finite"),
    "schedule": ({"learning_rate": lambda n: 1.0 - n}, r"learning_rate = 0.0 at outer step 1: .* > 0"),
    "inner_steps": ({"inner_steps": 0}, r"inner_steps = 0 must be >= 1: K counts the updates"),
    "whole": ({"inner_steps": 1.5}, r"inner_steps = 1.5 must be a whole number >= 1"),
    "outer_steps": ({"outer_steps": 0}, r"outer_steps = 0 must be >= 1: N counts the refreshes"),
    "replicates": ({"replicates": 0}, r"replicates = 0 must be >= 1"),
    "first_replicate": ({"first_replicate": -1}, r"first_replicate = -1 must be >= 0"),
    "group_size": ({"group_size": 0}, r"group_size = 0 must be >= 1"),
    "infinite group": (
        {"group_size": math.inf},
        r"group_size = inf must be a whole number .* cannot be drawn",
    ),
    "group of one": (
        {"group_size": 1, "estimator": "rloo"},
        r"undefined for a group of 1; it needs group_size >= 2",
    ),
    "batches": ({"batches": "shared"}, r"batches = 'shared': choose 'reused' \(one batch .*'disjoint'"),
    "prompts_per_step": ({"prompts_per_step": 0}, r"prompts_per_step = 0 must be >= 1"),
    "whole updates": (
        {"prompts_per_step": 2, "estimator": replace(ESTIMATORS["grpo"], scale=batch_token_mean)},
        r"prompts_per_step = 2: .* reads the whole update; simulate it with prompts_per_step=1, or ask",
    ),
    "drawn again": (
        {"estimator": replace(ESTIMATORS["grpo"], filter=drop_equal("refill"))},
        r"drop_equal\(mode='refill'\) draws groups again, .* simulate drop_equal\('divide_by_kept'\)",
    ),
    "record_every": ({"record_every": 0}, r"record_every = 0 must be >= 1"),
    "estimator": ({"estimator": "gpro"}, r"unknown estimator 'gpro'; nearest names: gspo, grpo"),
    "theta shape": (
        {"theta": [[0.0, 0.0, 0.0]]},
        r"theta has shape \(1, 3\); this world needs \(S, V\) = \(1, 2\)",
    ),
    "theta": ({"theta": [[0.0, math.nan]]}, r"theta\[0, 1\] = nan: logits must be finite"),
    "engine": ({"engine": "numpy"}, r"engine = 'numpy': choose one of auto, compiled, hybrid, tensors"),
    "dtype": ({"dtype": torch.float16}, r"dtype = torch.float16: choose torch.float64 or torch.float32"),
    "single": (
        {"dtype": torch.float32, "engine": "hybrid"},
        r"runs on the CPU in float64, .* use engine='tensors'",
    ),
    "compiled": (
        {"engine": "compiled", "estimator": lambda b: b.logp.sum()},
        r"cannot be compiled: a callable may do anything; use engine='hybrid'",
    ),
    "no reference": (
        {
            "estimator": ESTIMATORS["grpo"].__class__(
                **(vars(ESTIMATORS["grpo"]) | {"penalty": kl_loss(k3, 1.0)})
            )
        },
        r"compares with a reference policy: give theta_ref",
    ),
    "exact divergence": (
        {
            "estimator": ESTIMATORS["grpo"].__class__(
                **(vars(ESTIMATORS["grpo"]) | {"penalty": kl_exact(1.0)})
            )
        },
        r"sums over the vocabulary at every visited state.*take kl_loss",
    ),
}


@pytest.mark.usefixtures("unchecked_signatures")
@pytest.mark.parametrize("name", REFUSED)
def test_bad_requests_are_refused(name):
    changes, message = REFUSED[name]
    arguments = {"theta": [[0.0, 0.0]], "estimator": "grpo"} | RUN | changes
    with pytest.raises(ValueError, match=message):
        simulate(XOR, arguments.pop("theta"), arguments.pop("estimator"), **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(
        ValueError, match=r"device = '\w+' is not there \(CUDA available: False\): choose 'cpu'"
    ):
        simulate(XOR, [[0.0, 0.0]], "grpo", device=device, **RUN)


@pytest.mark.parametrize("bad", [{"beta1": 1.0}, {"beta2": -0.1}, {"epsilon": 0.0}])
def test_adam_needs_averages_and_a_positive_epsilon(bad):
    with pytest.raises(ValueError, match=r"Adam needs 0 <= beta < 1, and epsilon > 0"):
        Adam(**bad)


def test_a_world_too_large_to_lay_out_is_refused(monkeypatch):
    monkeypatch.setattr(prompt_graphs, "MAX_LINKS", 100)
    mdp = WORLDS["right-answer"].build()
    simulate(XOR, [[0.0, 0.0]], "grpo", **RUN)
    monkeypatch.setattr(prompt_graphs, "MAX_LINKS", 38)
    with pytest.raises(ValueError, match=r"39 \(node, token\) pairs, more than MAX_LINKS = 38"):
        simulate(mdp, torch.zeros(13, 3), "grpo", **RUN)


def check_frozen_alone(engine: str) -> None:
    """A step so long that logits become non-finite for some first gradients, and not for others.

    REINFORCE with rewards 1/2 and 8 in a group of one: g_hat = r (e_a - pi), too much where r = 8.
    """
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.5, 8.0])
    run = RUN | {
        "group_size": 1,
        "learning_rate": 1e150,
        "inner_steps": 1,
        "outer_steps": 2,
        "replicates": 40,
    }
    theta = torch.zeros(1, 2, dtype=torch.float64)
    trace = simulate(mdp, theta, "reinforce", engine=engine, **run)
    stopped = trace.frozen >= 0
    assert 0 < stopped.sum() < 40
    first = trace.frozen == 0
    assert (trace.theta[first] == theta).all() and (
        trace.final_return[first] == trace.initial_return[first]
    ).all()
    assert torch.isfinite(trace.theta).all() and torch.isfinite(trace.final_return).all()
    assert (trace.sum_move_norm_sq[first] == 0).all() and (trace.sum_first_norm_sq[first] == 0).all()
    # theta_{0,0} was reached, theta_{1,0} was not.
    assert torch.isfinite(trace.expected_return[:, 0]).all()
    assert trace.drift[first].isnan().all() and trace.expected_return[first, 1].isnan().all()
    alive = ~stopped
    assert torch.isfinite(trace.expected_return[alive]).all() and torch.isfinite(trace.drift[alive]).all()
    for r in alive.nonzero()[:3, 0].tolist():
        alone = simulate(
            mdp, theta, "reinforce", engine=engine, **run | {"replicates": 1, "first_replicate": r}
        )
        torch.testing.assert_close(alone.theta[0], trace.theta[r], **SAME_BITS)


@pytest.mark.parametrize("engine", ["compiled", "hybrid", "tensors"])
def test_a_replicate_that_overflows_is_frozen_alone(engine):
    check_frozen_alone(engine)


@pytest.mark.parametrize("engine", ["hybrid", "tensors"])
def test_what_an_estimator_refuses_freezes_the_replicate_and_is_reported(engine):
    """The objective has no gradient where a token was drawn whose log-probability is below -1."""
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])

    def objective(b):
        return (b.logp[:, 0] * b.reward).mean() + (b.logp[:, 0] + 1.0).sqrt().mean()

    run = {"group_size": 2, "learning_rate": 1.0, "inner_steps": 1, "outer_steps": 4, "replicates": 30}
    trace = simulate(mdp, [[0.0, 0.0]], Objective(objective), engine=engine, **run)
    stopped = (trace.frozen >= 0).nonzero()[:, 0].tolist()
    assert 0 < len(stopped) < 30
    assert sorted(trace.refusals) == stopped
    assert all("the objective is nan" in text for text in trace.refusals.values())
    for r in stopped:
        last = trace.frozen[r]
        here = trace.expected_return[r]
        assert torch.isfinite(here[: last + 1]).all() and here[last + 1 :].isnan().all()
        assert trace.final_return[r].item() == pytest.approx(expected_return(mdp, trace.theta[r]), abs=1e-15)
        torch.testing.assert_close(trace.final_return[r], here[last], **EXACT)


def test_what_an_estimator_refuses_at_the_very_first_step_is_raised():
    """There it is a mistake of the caller, and nothing has been computed that could be lost."""
    with pytest.raises(ValueError, match="it must return a scalar"):
        simulate(XOR, [[0.0, 0.0]], lambda b: b.logp, **RUN)
