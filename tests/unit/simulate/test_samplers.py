"""simulate(..., sampler=...): the responses come from another policy than theta_old, in every outer step."""

import math

import pytest
import torch

from tests.properties.tolerances import EXACT, SAME_BITS
from ticgrpo_theory.bounds import instance_constants
from ticgrpo_theory.bounds.hypotheses import check_settings
from ticgrpo_theory.estimators import Estimator, ratios
from ticgrpo_theory.estimators.advantages import leave_one_out
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.corrections import masked, truncated
from ticgrpo_theory.estimators.scales import kept, sequence_sum, token_mean
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds.samplers import temperature, top_k

REWARD = {(0, 0): 1.0, (0, 1): 0.0, (1,): 0.25}
MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=REWARD.__getitem__)
START = torch.tensor([[0.6, -0.4], [0.5, -0.2]], dtype=torch.float64)
RUN = {"group_size": 2, "learning_rate": 0.5, "inner_steps": 1, "outer_steps": 1, "seed": 3}
CORRECTED = Estimator(
    ratios.token, leave_one_out(), unclipped(), sequence_sum, correction=truncated("token", None, 1.1)
)
KEPT = Estimator(
    ratios.token, leave_one_out(), unclipped(), kept(token_mean), correction=masked("token", None, 1.1)
)


@pytest.mark.parametrize("estimator", [CORRECTED, KEPT], ids=["truncated", "kept"])
@pytest.mark.parametrize("sampler", [temperature(0.4), top_k(1)], ids=str)
def test_the_mean_step_is_the_expectation_under_the_sampler(estimator, sampler):
    R = 4000
    trace = simulate(MDP, START, estimator, replicates=R, sampler=sampler, **RUN)
    moves = (trace.theta - START) / 0.5
    mean, error = moves.mean(dim=0), moves.std(dim=0) / math.sqrt(R)
    expected = expected_gradient(MDP, START, START, estimator, 2, theta_sampler=sampler(START))
    assert bool(((mean - expected).abs() <= 5 * error + 1e-12).all())
    plain = expected_gradient(MDP, START, START, estimator, 2)
    assert bool(((mean - plain).abs() > 5 * error).any())
    assert trace.settings.sampler == sampler and trace.settings.engine == "tensors"


def test_a_sampler_that_changes_nothing_changes_nothing():
    run = RUN | {"outer_steps": 3, "inner_steps": 2, "replicates": 5}
    same = simulate(MDP, START, CORRECTED, sampler=temperature(1.0), **run)
    plain = simulate(MDP, START, CORRECTED, engine="tensors", **run)
    torch.testing.assert_close(same.theta, plain.theta, **SAME_BITS)
    hybrid = simulate(MDP, START, CORRECTED, **run)
    assert hybrid.settings.engine == "hybrid"
    torch.testing.assert_close(same.theta, hybrid.theta, **EXACT)


def test_every_outer_step_makes_the_sampler_anew():
    seen = []

    def watched(theta):
        seen.append(theta.clone())
        return theta

    simulate(
        MDP, START, CORRECTED, sampler=watched, replicates=1, **(RUN | {"outer_steps": 3, "group_size": 8})
    )
    assert len(seen) == 1 + 3 and not torch.equal(seen[-1], seen[-2])


REFUSED = [
    ({"sampler": 0.9}, r"sampler = 0.9 is no function of a policy: give .* top_p\(0.9\)"),
    ({"sampler": lambda theta: theta[:1]}, r"returned .* for logits \(2, 2\): return a float64 tensor"),
    ({"sampler": temperature(2.0), "engine": "hybrid"}, r"draws from theta_old alone.*engine='tensors'"),
]


@pytest.mark.usefixtures("unchecked_signatures")
@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_is_no_sampler_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        simulate(MDP, START, CORRECTED, replicates=1, **RUN, **change)


def test_constants_of_theta_old_are_not_compared_with_a_run_of_another_sampler():
    trace = simulate(MDP, START, "grpo", replicates=1, sampler=temperature(2.0), **RUN)
    with pytest.raises(ValueError, match=r"drawn by temperature=2.0, .* simulate without a sampler"):
        check_settings(instance_constants(MDP, "grpo", 2, 0.5, 1), trace)
