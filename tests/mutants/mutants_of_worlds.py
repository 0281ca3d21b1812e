"""Mistakes in worlds, in policies and in exact values."""

from collections.abc import Callable
from functools import partial

from tests.mutants.mutants import Mutant
from tests.unit.exact import test_expectation_reference, test_objective
from tests.unit.worlds import test_mdp, test_policy, test_samplers
from ticgrpo_theory.estimators import clip_table
from ticgrpo_theory.exact import expectation, objective
from ticgrpo_theory.exact.mean import mean_weights
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import policy, samplers
from ticgrpo_theory.worlds.graph import Graph, Tree

WORLDS = [
    Mutant(
        "EOS left out of the mask",
        Graph.paths.func,
        "mask[ended],",
        "mask[ended] & (np.arange(self.horizon) < t),",
        test_mdp.check_hand_worked_tree,
    ),
    Mutant(
        "length of a response without its EOS",
        Tree.length.func,
        "np.arange(1, self.horizon + 1)",
        "np.arange(self.horizon)",
        test_mdp.check_hand_worked_tree,
    ),
    Mutant(
        "rewards in another order",
        Tree.outcome_of_response.func,
        "first + self.eos * below",
        "first",
        test_mdp.check_hand_worked_tree,
    ),
    Mutant(
        "length without EOS in automata",
        TokenMDP.automaton,
        "np.arange(1, T + 1)",
        "np.arange(T)",
        test_mdp.check_hand_worked_automaton,
    ),
    Mutant(
        "reward at the state before EOS",
        TokenMDP.automaton,
        "-1 - moves[..., eos]",
        "-1 - np.arange(Q)",
        test_mdp.check_hand_worked_automaton,
    ),
    Mutant(
        "prompts on the same rows",
        TokenMDP.mixture,
        "0 if shared else sum(counts[:index])",
        "0",
        test_mdp.check_two_prompts,
    ),
    Mutant(
        "prompts of equal weight",
        TokenMDP.mixture,
        "flat.append(weight * inner)",
        "flat.append(inner / len(mdps))",
        test_mdp.check_two_prompts,
    ),
    Mutant(
        "logits in single precision",
        policy.real_table,
        "table, dtype=torch.float64",
        "table, dtype=torch.float32",
        test_policy.check_precision,
    ),
    Mutant(
        "score without its mean",
        policy.pull_back,
        "weights - pi * weights.sum(dim=-1, keepdim=True)",
        "weights",
        test_policy.check_pull_back,
    ),
    Mutant(
        "support not checked",
        policy.check_support,
        "np.ptp(sampler.numpy()) < 700",
        "np.ptp(sampler.numpy()) >= 0",
        test_policy.check_never_drawn,
    ),
    Mutant(
        "top_p without the token that crosses",
        samplers.top_p.of,
        "stays = before <",
        "stays = mass <",
        test_samplers.check_top_p_by_hand,
    ),
    Mutant(
        "min_p as an absolute probability",
        samplers.min_p.of,
        "theta - theta.amax(dim=-1, keepdim=True)",
        "theta - theta.logsumexp(dim=-1, keepdim=True)",
        test_samplers.check_min_p_by_hand,
    ),
    Mutant(
        "a chain in the order in which it is written",
        samplers.chain,
        "sorted(samplers, key=lambda sampler: order.index(type(sampler)))",
        "samplers",
        test_samplers.check_chain_by_hand,
    ),
]


def moment(row: str) -> Callable[[], None]:
    return partial(test_expectation_reference.check_first_moment, row, 1)


EXACT_VALUES = [
    Mutant(
        "prompts added without weights",
        objective.policy_gradient,
        "weight * expected_value_gradient",
        "expected_value_gradient",
        test_objective.check_two_prompts,
    ),
    Mutant(
        "groups drawn from theta",
        enumeration.seen,
        "prob=logp_sampler.sum(dim=1).exp()",
        "prob=logp.sum(dim=1).exp()",
        moment("token, sequence mean"),
    ),
    Mutant(
        "score always at theta",
        expectation.pulled_back,
        "problem.estimator.score(problem.theta, problem.theta_old)",
        "problem.theta",
        moment("no ratio, score at theta_old"),
    ),
    Mutant(
        "a ratio where there is none",
        mean_weights.dynamic_weights,
        "estimator.ratio is ratios.none",
        "False",
        moment("no ratio, score at theta"),
    ),
    Mutant(
        "negative advantages added",
        mean_weights.response_weights,
        "- f_minus[part, None]",
        "+ f_minus[part, None]",
        moment("token, sequence mean"),
    ),
    Mutant(
        "clip of A >= 0 for either sign",
        clip_table.switched_off,
        "lo_minus, hi_minus, off",
        "lo_plus, hi_plus, off",
        moment("token, sequence mean"),
    ),
    Mutant(
        "clip that holds in place of switching off",
        clip_table.switched_off,
        "off, off, off, off",
        "lo_plus, hi_plus, lo_minus, hi_minus",
        moment("token, token mean"),
    ),
]
