"""The smallest cases: worked out by hand, in fractions, and the same as the exact engine."""

from fractions import Fraction

import pytest
import torch

from tests.unit.check.wrong_losses import sequence_mean, token_mean_of_piece
from ticgrpo_theory.check import check_loss
from ticgrpo_theory.check.gradient_rows import Expectations, direction
from ticgrpo_theory.check.little_worlds import ANY_LENGTH, HALVES, ONE_LENGTH, PROMPTS, stopping
from ticgrpo_theory.check.pencil import responses, witness
from ticgrpo_theory.check.subject import subject_of
from ticgrpo_theory.exact import expected_return

ANY = "unbiased_on_policy_any_length"


def test_the_witness_of_one_over_length_is_the_one_that_a_pencil_finds():
    """Responses aa (1/4), a. (1/4), . (1/2), reward 1 for a. alone, G = 2, A = +-1, c = A / (2 length).

    First row: groups {a., aa} and {a., .} have probabilities 2/16 and 2/8. The first row's score of a is
    +-1/2. {a., aa}: 1/4 - 1/4 cancel. {a., .}: (1/4)(1/2) - (1/2)(-1/2) = 3/8, times 1/4: 3/32.
    Second row: {a., aa}: (1/4)(-1/2) - (1/4)(1/2) = -1/4, times 1/8; {a., .}: (1/4)(-1/2), times 1/4: -1/16.
    """
    text = check_loss(sequence_mean, rows=[ANY]).row(ANY).witness
    assert "E[g]   = [3/32 -3/32; -1/16 1/16]\ngrad J = [1/8 -1/8; -1/8 1/8]" in text
    assert "(a. , .)  P = 1/8  c = [1/4, 1/4 | -1/2]" in text
    first, second = (
        Fraction(1, 4) * Fraction(3, 8),
        Fraction(1, 8) * Fraction(-1, 4) + Fraction(1, 4) * Fraction(-1, 8),
    )
    assert (first, second) == (Fraction(3, 32), Fraction(-1, 16))
    world = stopping("by hand", 2, [0.0, 1.0, 0.0], (HALVES, HALVES))
    E = Expectations(subject_of(sequence_mean)).at(world, 2)
    torch.testing.assert_close(E[:, 0], torch.tensor([float(first), float(second)], dtype=torch.float64))


def test_an_unbiased_loss_has_no_witness():
    rloo = Expectations(subject_of("rloo"))
    worlds = (world for world in ANY_LENGTH)
    assert witness(rloo, worlds, 1e-9) == ""
    assert witness(Expectations(subject_of("gspo")), iter(ANY_LENGTH), 1e-9) != ""


@pytest.mark.parametrize("world", [*ONE_LENGTH, *ANY_LENGTH], ids=lambda world: world.name)
def test_little_worlds_are_what_they_say(world):
    """Probabilities of the listed responses add up to 1, and J is that of the engine."""
    every = responses(world)
    assert sum(one.prob for one in every) == 1
    J = sum(one.prob * one.reward for one in every)
    assert float(J) == pytest.approx(expected_return(world.mdp, world.theta), abs=1e-12)
    assert len({len(one.tokens) for one in every}) == (1 if world in ONE_LENGTH else len(every) - 1)


def test_prompts_of_a_mixture_keep_their_rows_in_order():
    (world,) = PROMPTS
    easy, hard = world.parts
    both = torch.cat([easy.gradient, hard.gradient]) / 2
    torch.testing.assert_close(world.gradient, both)


def test_the_angle_is_that_of_the_definition():
    g = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    world = ONE_LENGTH[0]
    assert direction(g + torch.tensor([[1.0, 1.0]]), g, world, 2).degrees == pytest.approx(45)
    assert direction(-2 * g, g, world, 2).degrees == pytest.approx(180)
    assert direction(3 * g, g, world, 2).scale == pytest.approx(3)


def test_fail_above_widens_the_unbiased_rows_alone():
    row = check_loss(sequence_mean, rows=[ANY], fail_above="5deg").row(ANY)
    assert row.holds is False and row.number > 5
    assert check_loss(sequence_mean, rows=[ANY], fail_above="30deg").row(ANY).holds is True
    assert (
        check_loss(token_mean_of_piece, rows=["microbatch"], fail_above="80deg").row("microbatch").holds
        is False
    )


def test_whole_updates_are_given_to_a_loss_of_the_batch():
    """Rewards standardised over two groups of one prompt mix groups; centred by group they do not."""

    def of_batch(batch):
        A = batch.reward - batch.reward.mean()
        return (A[:, None] * batch.logp * batch.mask).sum() / len(A)

    def by_group(batch):
        total = 0.0
        for p in range(int(batch.group.max()) + 1):
            rows = batch.group == p
            A = batch.reward[rows] - batch.reward[rows].mean()
            total = total + (A[:, None] * batch.logp[rows] * batch.mask[rows]).sum()
        return total / len(batch.reward)

    name = "unbiased_on_policy_prompts"
    report = check_loss(by_group, scope="batch", prompts=2, rows=[name, "equal_rewards", "order"])
    assert [row.holds for row in report.rows] == [True, True, True], report.rows
    # A mean over both groups gives A to groups of equal rewards.
    row = check_loss(of_batch, scope="batch", prompts=2, rows=[name]).row(name)
    assert row.number is not None


def test_the_whole_ratio_stays_on_grad_J_after_a_drift():
    row = "unbiased_off_policy"
    assert check_loss("trajectory_is", rows=[row]).row(row).holds is True
    token = check_loss("rloo", rows=[row]).row(row)
    assert token.holds is False and "nearest target grad J(theta_old)" in token.detail
