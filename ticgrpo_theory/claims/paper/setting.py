"""Sec. 2: the setting, J, the penalty, the policy gradient, group statistics."""

from functools import partial

import torch
from flint import arb, fmpq

from ticgrpo_theory.claims import autograd_reference
from ticgrpo_theory.claims.certified import divergence as balls_of_kl
from ticgrpo_theory.claims.certified import enclosures
from ticgrpo_theory.claims.certified.rational import IntegerPolicy, responses
from ticgrpo_theory.claims.claim import Claim, Finding, holds, judge, shown, vanishes
from ticgrpo_theory.claims.witnesses import ANSWERS, GRPO, by_hand, norm, size
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.catalogue import reinforce
from ticgrpo_theory.estimators.penalties import k3, kl_exact, kl_loss
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.objective import expected_return, policy_gradient
from ticgrpo_theory.exact.penalties.divergence import expected_divergence
from ticgrpo_theory.exact.penalties.penalised import penalised_gradient, penalised_objective, penalty_gradient

KL_CASE = ANSWERS.with_reference("1/2,2/3,1/4")
REFERENCE = KL_CASE.line.policy("ref")
"""theta_ref of the claims about KL."""
NOW, OLD = ANSWERS.now, ANSWERS.old


def transition() -> Finding:
    graph = ANSWERS.mdp.graph
    _, successor = graph.table(0)
    followers = len(set(successor[graph.start].tolist()))
    printed = ANSWERS.witness(
        "next states of the first state, minus the one that a function of the state alone would have",
        lambda: arb(len({y.tokens[0] for y in responses(ANSWERS.mdp)}) - 1),
        followers - 1.0,
    )
    mass = float(autograd_reference.log_probability(ANSWERS.mdp, ANSWERS.theta).exp().sum())
    return judge(
        printed,
        f"{followers} next states of one state, {printed.shown} more than a function of the state alone has; "
        f"the products of token probabilities add to 1 "
        f"up to {shown(mass - 1)}",
        correction="the action belongs to the domain: the next state is the state with that token appended",
        corrected=vanishes(mass - 1),
    )


def objective() -> Finding:
    J = expected_return(ANSWERS.mdp, ANSWERS.theta)
    listed = sum((y.prob(NOW) * y.reward for y in responses(ANSWERS.mdp)), fmpq(0))
    written = float(autograd_reference.expected_return(ANSWERS.mdp, ANSWERS.theta))
    witness = ANSWERS.witness(
        "J by recursion over the layers minus J by listing responses",
        lambda: enclosures.expected_return(ANSWERS.mdp, NOW) - arb(listed),
        J - written,
    )
    return judge(
        witness,
        f"J = {shown(J)}, by recursion, by listing responses, and as the fraction "
        + by_hand(ANSWERS.line, "J('theta')"),
    )


def penalised() -> Finding:
    beta, mdp, theta, reference = 0.1, ANSWERS.mdp, ANSWERS.theta, REFERENCE.logits()
    kl = autograd_reference.divergence(mdp, theta, reference)

    def written(table: torch.Tensor) -> torch.Tensor:
        return autograd_reference.expected_return(mdp, table) - beta * autograd_reference.divergence(
            mdp, table, reference
        )

    gap = penalised_gradient(mdp, theta, reference, beta) - autograd_reference.derivative(written, theta)
    value = penalised_objective(mdp, theta, reference, beta) - float(written(theta))
    return holds(
        vanishes(size(gap), value),
        f"KL of responses {shown(float(kl))}; the gradient by recursion and by autograd "
        f"differ by {shown(size(gap))}",
        "KL of whole responses, pi_theta first",
        stated=(str(KL_CASE.line),),
    )


def sampled_kl() -> Finding:
    mdp, theta, reference = ANSWERS.mdp, ANSWERS.theta, REFERENCE.logits()
    gradient = expected_divergence(mdp, theta, reference).gradient
    off, on = (
        size(-penalty_gradient(mdp, theta, behaviour, reference, kl_loss(k3, 1.0)) - gradient)
        for behaviour in (ANSWERS.theta_old, theta)
    )

    def enclosed(behaviour: IntegerPolicy) -> arb:
        sampled = balls_of_kl.k3_gradient(mdp, NOW, behaviour, REFERENCE, lambda y: arb(1))
        return norm(enclosures.difference(sampled, balls_of_kl.kl_gradient(mdp, NOW, REFERENCE)))

    def enclosed_rows(behaviour: IntegerPolicy) -> arb:
        rows = balls_of_kl.row_gradient(mdp, NOW, behaviour, REFERENCE)
        return norm(enclosures.difference(rows, balls_of_kl.kl_gradient(mdp, NOW, REFERENCE)))

    drawn_from = (("old", OLD, ANSWERS.theta_old, off), ("theta", NOW, theta, on))
    sampled = tuple(
        KL_CASE.witness(
            f"||E[gradient of the sampled k3] - grad KL(P_theta || P_ref)||, responses drawn from {name}",
            partial(enclosed, behaviour),
            gap,
            formula=f"norm(k3('{name}', '1') - kl())",
        )
        for name, behaviour, _, gap in drawn_from
    )
    visited = tuple(
        KL_CASE.witness(
            f"||E[gradient of the KL of every visited row] - grad KL(P_theta || P_ref)||, drawn from {name}",
            partial(enclosed_rows, behaviour),
            size(-penalty_gradient(mdp, theta, table, reference, kl_exact(1.0)) - gradient),
            formula=f"norm(row_kl('{name}') - kl())",
        )
        for name, behaviour, table, _ in drawn_from
    )
    return judge(
        (*sampled, *visited),
        f"read as k3 (2402.03300): missed by {sampled[0].shown} on responses of theta_old and by "
        f"{sampled[1].shown} on its own; read as the KL of every visited row: by {visited[0].shown} and "
        f"{visited[1].shown}; of norm {shown(size(gradient))}",
        counter_example="under either reading, neither off-policy nor on-policy: the visits are not "
        "differentiated, and k3 has no ratio; beta = 0 avoids it",
    )


def gradient_theorem() -> Finding:
    mdp, theta = ANSWERS.mdp, ANSWERS.theta
    derivative = autograd_reference.derivative(partial(autograd_reference.expected_return, mdp), theta)
    sampled = expected_gradient(mdp, theta, theta, reinforce(), 1)
    gaps = [size(table - derivative) for table in (policy_gradient(mdp, theta), sampled)]
    return holds(
        vanishes(*gaps),
        f"E[r sum_t grad log pi] minus the derivative of J: {shown(max(gaps))}; ||grad "
        f"J|| = {shown(size(derivative))}",
        stated=(str(ANSWERS.line),),
    )


def statistics() -> Finding:
    G, J = 4, expected_return(ANSWERS.mdp, ANSWERS.theta_old)

    def enclosed() -> arb:
        p = sum((y.prob(OLD) for y in responses(ANSWERS.mdp) if y.reward == 1), fmpq(0))
        return arb(p**G + (1 - p) ** G)

    printed = ANSWERS.witness(
        "probability that all rewards of a group are equal, where (r - mu_G) / sigma_G is 0 / 0",
        enclosed,
        J**G + (1 - J) ** G,
        GRPO,
        G,
        " * ".join(["J('old')"] * G) + " + " + " * ".join(["(1 - J('old'))"] * G),
    )
    groups = torch.tensor([[0.1, 0.1, 0.1], [1.0, 0.0, 0.0]], dtype=torch.float64)
    by_hand = torch.tensor([[0.0, 0.0, 0.0], [2.0, -1.0, -1.0]], dtype=torch.float64)
    by_hand[1] /= 2**0.5
    return judge(
        printed,
        f"undefined for a share {printed.shown} of all groups at G = {G}",
        correction="A = 0 where all rewards are equal, or delta as in Algorithms 1 and 2",
        corrected=vanishes(size(standardised(delta=0.0)(groups) - by_hand)),
    )


CLAIMS = (
    Claim(
        "E1",
        "A response is a path of states, each the one before with a token appended; its probability is the "
        "product of token probabilities",
        "Eq. 1",
        transition,
        "ticgrpo_theory.mdp.TokenMDP",
        "test_mdp.py::test_row_i_of_a_tree_belongs_to_prefix_i",
    ),
    Claim(
        "E2",
        "J(theta) is the expected reward of a response",
        "Eq. 2",
        objective,
        "ticgrpo_theory.exact.objective.expected_return",
        "test_objective.py::test_value_and_gradient_are_the_sums_over_all_responses",
    ),
    Claim(
        "E3",
        "The penalised objective is J minus beta times a KL divergence to a reference policy",
        "Eq. 3",
        penalised,
        "ticgrpo_theory.exact.penalties.penalised.penalised_gradient",
        "test_penalised.py::test_the_penalised_gradient_is_the_derivative_of_the_penalised_objective",
        "kl_estimators.py",
    ),
    Claim(
        "E3.sampled",
        "The penalty sampled on responses of theta_old has the gradient of that KL (target: grad KL(theta))",
        "Eq. 5, Algorithm 1 line 10",
        sampled_kl,
        "ticgrpo_theory.exact.penalties.penalised.penalty_gradient",
        "test_penalised.py::test_the_same_check_rejects_what_the_table_does_not_say",
        "kl_estimators.py",
    ),
    Claim(
        "E4",
        "grad J(theta) = E_theta[r sum_t grad log pi]: REINFORCE is unbiased (target: grad J(theta))",
        "Eq. 4",
        gradient_theorem,
        "ticgrpo_theory.exact.objective.policy_gradient",
        "test_objective.py::test_the_gradient_is_the_derivative_of_the_value",
    ),
    Claim(
        "G.statistics",
        "A_i = (r_i - mu_G) / sigma_G with the mean and standard deviation of the group",
        "Sec. 2.2",
        statistics,
        "ticgrpo_theory.estimators.advantages.standardised",
        "test_advantages.py::test_standardised_is_its_definition",
    ),
)
