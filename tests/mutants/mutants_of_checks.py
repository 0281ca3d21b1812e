"""Mistakes in the checks of losses: faults that would no longer be seen, or be seen where there are none."""

from functools import partial

from tests.mutants.mutants import Mutant
from tests.unit.check import test_check_losses, test_check_witness
from ticgrpo_theory.check import drift_rows, gradient_rows, group_rows, pencil, weight_rows

found = partial(partial, test_check_losses.test_a_wrong_loss_is_blamed_for_its_fault)
spared = partial(partial, test_check_losses.test_a_right_loss_is_not_accused)

CHECKS = [
    Mutant(
        "masked positions are looked at where the mask is True",
        weight_rows.seen_behind,
        "where(~wide.mask, torch.zeros_like(x))",
        "where(wide.mask & ~wide.mask, torch.zeros_like(x))",
        found("shifted_mask"),
    ),
    Mutant(
        "what pieces change is not handed on",
        group_rows.cut,
        "return max(worst, off), witness",
        "return 0.0 * worst, witness",
        found("token_mean_of_piece"),
    ),
    Mutant(
        "a step that goes down is taken for one that goes up",
        gradient_rows.direction,
        "c = norm(E), projection(E, g)",
        "c = norm(E), abs(projection(E, g))",
        found("ascends"),
    ),
    Mutant(
        "the residual is not freed of the multiple of grad J",
        gradient_rows.direction,
        "norm(E - c * g)",
        "norm(E - g)",
        spared("token_clip"),
    ),
    Mutant(
        "the drift is left out of the target",
        drift_rows.off_policy,
        "policy_gradient(world.mdp, theta),",
        "world.gradient,",
        test_check_witness.test_the_whole_ratio_stays_on_grad_J_after_a_drift,
    ),
    Mutant(
        "a witness weighs every group alike",
        pencil.worked_out,
        "total[row][b] += prob * (weight or 0) * score",
        "total[row][b] += (weight or 0) * score",
        test_check_witness.test_the_witness_of_one_over_length_is_the_one_that_a_pencil_finds,
    ),
]
