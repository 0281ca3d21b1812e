"""update/step.py, update/inner_steps.py: what a user claims of a loss is checked on the update itself."""

import dataclasses
import functools
from dataclasses import dataclass, replace

import pytest
import torch

from llm.update import step
from llm.update.inner_steps import updates
from llm.update.microbatches import consecutive_rows
from llm.update.step import Recipe, accumulate, update
from tests.properties.tolerances import EXACT, MOVES, SAME_BITS
from tests.unit.llm.llm_cases import fresh, groups
from tests.unit.llm.update.test_step import ANY, CUTS, WHOLE, check_cuts, definition, self_normalised, taken
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import centred
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.properties import BLACK_BOX, Reads, reads
from ticgrpo_theory.estimators.ratios import none, trajectory
from ticgrpo_theory.estimators.resolve import properties_of


def pooled_over_the_group(log_ratio, mask):
    """v = log(w'[i] / mean_j w'[j]): a response's weight reads the others."""
    log_w = log_ratio.where(mask, 0.0).sum(dim=-1, keepdim=True)
    return (log_w - log_w.exp().mean(dim=-2, keepdim=True).log()).expand_as(log_ratio).where(mask, 0.0)


@functools.wraps(trajectory)
def plain(log_ratio, mask):
    """The trajectory ratio, without a declaration."""
    return trajectory(log_ratio, mask)


true_claim = reads(Reads.OWN_RESPONSE)(lambda log_ratio, mask: trajectory(log_ratio, mask))
false_claim = reads(Reads.OWN_RESPONSE)(lambda log_ratio, mask: pooled_over_the_group(log_ratio, mask))


def with_ratio(ratio) -> Estimator:
    return replace(ESTIMATORS["tic_grpo"], ratio=ratio)


def response_mean(logp, logp_old, advantages, mask):
    """Minus the mean over responses of w' A."""
    log_w = ((logp - logp_old) * mask).sum(-1)
    return -(log_w.exp() * advantages).mean()


def token_mean(logp, logp_old, advantages, mask):
    """Minus the mean over the tokens of the group of w' A, w' over the mean of the group."""
    log_w = ((logp - logp_old) * mask).sum(-1)
    return -((log_w.softmax(-1) * advantages)[:, None] * mask).sum() / mask.sum()


CLAIM = Reads.OWN_RESPONSE
UNDECLARED = {
    "objective": Objective(self_normalised),
    "loss": from_loss(token_mean, centred()),
    "ratio": with_ratio(plain),
    "coupled ratio": with_ratio(pooled_over_the_group),
}
TRUE = {"ratio": with_ratio(true_claim), "loss": from_loss(response_mean, centred(), reads=CLAIM)}
FALSE = {"ratio": with_ratio(false_claim), "loss": from_loss(token_mean, centred(), reads=CLAIM)}


def passes(recipe: Recipe, monkeypatch) -> tuple[int, torch.Tensor]:
    """Passes over whole groups before the gradient, and the gradient."""
    seen, scored = [], step.score
    with monkeypatch.context() as patch:
        patch.setattr(step, "score", lambda *given: seen.append(1) or scored(*given))
        found = taken(recipe, groups())
    return len(seen), found


@pytest.mark.parametrize("name", UNDECLARED)
@pytest.mark.parametrize("cut", CUTS[1:])
def test_what_declares_nothing_gets_a_pass_over_the_whole_group_first(name, cut, monkeypatch):
    estimator = UNDECLARED[name]
    assert properties_of(estimator).couples
    first, found = passes(Recipe(estimator, cut), monkeypatch)
    assert first == 1
    torch.testing.assert_close(found, definition(estimator, groups()), **EXACT)


@pytest.mark.parametrize("name", ["dapo", "gmpo", "kl_loss"])
def test_the_catalogue_needs_no_such_pass(name, monkeypatch):
    first, found = passes(Recipe(ANY[name], CUTS[0]), monkeypatch)
    assert first == 0
    torch.testing.assert_close(found, definition(ANY[name], groups()), **EXACT)


@pytest.mark.parametrize("name", TRUE)
def test_a_true_claim_saves_the_pass_and_changes_no_number(name, monkeypatch):
    for cut in CUTS:
        first, found = passes(Recipe(TRUE[name], cut), monkeypatch)
        assert first == 0
        torch.testing.assert_close(found, definition(TRUE[name], groups()), **EXACT)


def moved_by(recipe: Recipe, given) -> float:
    """How far an update that is refused has moved the weights."""
    lm = fresh()
    before = torch.cat([p.detach().flatten() for p in lm.network.parameters()])
    with pytest.raises(ValueError, match=r"claims to read no other response .* no step was made"):
        update(lm.network, torch.optim.SGD(lm.network.parameters(), 1.0), given, recipe)
    return float((torch.cat([p.detach().flatten() for p in lm.network.parameters()]) - before).abs().max())


@pytest.mark.parametrize("name", FALSE)
@pytest.mark.parametrize("cut", CUTS[1:])
def test_a_false_claim_is_refused_in_the_update_itself_before_the_step(name, cut):
    assert not properties_of(FALSE[name]).couples
    assert moved_by(Recipe(FALSE[name], cut), groups()) == 0


@pytest.mark.parametrize("name", FALSE)
def test_without_the_check_it_would_be_a_wrong_gradient(name, monkeypatch):
    monkeypatch.setattr(step, "check_claim", lambda *_: None)
    found = taken(Recipe(FALSE[name], consecutive_rows(1)), groups())
    assert (found - definition(FALSE[name], groups())).abs().max() > MOVES


def test_without_the_pass_before_cut_groups_would_be_wrong(monkeypatch):
    check_cuts("self_normalised")
    uncoupled = replace(BLACK_BOX, weights=Reads.OWN_RESPONSE)
    monkeypatch.setattr(step, "properties_of", lambda _: uncoupled)
    with pytest.raises(AssertionError):
        check_cuts("self_normalised")


def test_groups_of_one_have_nobody_else_to_read(monkeypatch):
    given = groups()
    alone = dataclasses.replace(
        given,
        reward=given.reward.reshape(12, 1),
        logp_old=given.logp_old.reshape(12, 1, -1),
        logp_ref=given.logp_ref.reshape(12, 1, -1),
        logp_sampler=given.logp_sampler.reshape(12, 1, -1),
    )
    seen, scored = [], step.score
    monkeypatch.setattr(step, "score", lambda *args: seen.append(1) or scored(*args))
    taken(Recipe(Objective(self_normalised), WHOLE), alone)
    assert not seen


# Padding


def forgotten_mask(logp, logp_old, advantages, mask):
    """A mean over the padded tensor."""
    return -(logp * advantages[:, None]).mean()


def multiplied_mask(logp, logp_old, advantages, mask):
    return -((logp * mask).sum(-1) * advantages).mean()


def test_weights_at_padding_are_refused():
    for reading in (None, CLAIM):
        for cut in (WHOLE, CUTS[1]):
            with pytest.raises(ValueError, match=r"has weights at padding, .* multiply by the mask"):
                taken(Recipe(from_loss(forgotten_mask, centred(), reads=reading), cut), groups())
    masked = from_loss(multiplied_mask, centred())
    torch.testing.assert_close(taken(Recipe(masked, WHOLE), groups()), definition(masked, groups()), **EXACT)


# Held gradients


@reads(Reads.NOTHING)
def claimed_constant(log_ratio, mask):
    """Claims to read nothing, and is the trajectory ratio."""
    return trajectory(log_ratio, mask)


def constant(log_ratio, mask):
    return torch.zeros_like(log_ratio)


@dataclass(frozen=True)
class Surrogate:
    """A callable whose weights do not move, or do."""

    moves: bool

    def __call__(self, batch):
        weight = batch.log_ratio.sum(-1).exp().detach() if self.moves else 1.0
        return (weight * batch.reward * batch.logp.where(batch.mask, 0.0).sum(-1)).mean()


STALE = ESTIMATORS["stale"]
STILL = {"constant": replace(STALE, ratio=constant), "callable": Objective(Surrogate(False), old)}
MOVING = {
    "claim": replace(STALE, ratio=claimed_constant),
    "ratio": replace(STALE, ratio=plain),
    "callable": Objective(Surrogate(True), old),
    "loss": from_loss(response_mean, centred(), old),
}


def steps(estimator, batches: str, eta: float = 0.05) -> tuple[list[torch.Tensor], str]:
    """Weights after every update that was made, and why no more were."""
    lm, seen = fresh(), []
    optimizer = torch.optim.SGD(lm.network.parameters(), eta)
    # On-policy at the first update: what moves shows only from the second on.
    given = replace(groups(), logp_old=on_policy())
    try:
        for _ in updates(lm.network, optimizer, given, Recipe(estimator, CUTS[0]), 3, batches):
            seen.append(torch.cat([p.detach().flatten() for p in lm.network.parameters()]))
    except ValueError as why:
        return seen, str(why)
    return seen, ""


def on_policy() -> torch.Tensor:
    given = groups()
    return accumulate(fresh().network, given, Recipe(STALE, WHOLE)).logp


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
@pytest.mark.parametrize("name", STILL)
def test_weights_that_stay_are_held(name, batches):
    seen, why = steps(STILL[name], batches)
    assert len(seen) == 3 and why == ""
    if name == "constant":
        for found, expected in zip(seen, steps(STALE, batches)[0], strict=True):
            torch.testing.assert_close(found, expected, **SAME_BITS)


@pytest.mark.parametrize("batches", ["reused", "disjoint"])
@pytest.mark.parametrize("name", MOVING)
def test_weights_that_move_are_noticed_at_the_first_update_where_they_do(name, batches):
    seen, why = steps(MOVING[name], batches)
    assert len(seen) == 1
    assert "score at theta_old, but its weights at theta" in why and "no step was made" in why


def test_of_the_catalogue_it_is_known_before_the_first_pass():
    seen, why = steps(replace(STALE, ratio=trajectory), "reused")
    assert not seen and "use ratio none without a penalty in the loss" in why
    assert STALE.properties.held and STALE.ratio is none
