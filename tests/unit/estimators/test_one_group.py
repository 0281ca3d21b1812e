"""one_group.py: many groups get what each of them gets alone, whatever the function does."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT, MOVES
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.losses import apart_of, differentiate
from ticgrpo_theory.estimators.one_group import Apart, of_rewards_apart, picked

M, G, T = 11, 3, 4
RNG = np.random.default_rng(2)


def table(low: float, high: float) -> torch.Tensor:
    return torch.from_numpy(RNG.uniform(low, high, (M, G, T)))


LENGTH = torch.from_numpy(RNG.integers(1, T + 1, (M, G)))
OLD = table(-3, -1)
REWARD = torch.from_numpy(RNG.integers(0, 3, (M, G)) / 2)
BATCH = Batch(OLD + table(-0.5, 0.5), OLD, REWARD, torch.arange(T) < LENGTH[..., None], table(-3, -1), T)


def w(batch: Batch) -> torch.Tensor:
    return batch.log_ratio.sum(-1).exp()


def reduces_over_everything(batch):
    A = (batch.reward - batch.reward.mean()) / (batch.reward.std() + 1e-3)
    return (A * w(batch) / w(batch).sum()).sum() / batch.mask.sum()


def branches_on_data(batch):
    if batch.reward.max() > batch.reward.mean() + 0.3:
        return (w(batch) * batch.reward).sum()
    return -w(batch).max()


def takes_items(batch):
    return batch.reward.mean().item() * w(batch).sum()


def works_in_place(batch):
    A = batch.reward.clone()
    A -= A.mean()
    A[0] = 2.0
    return (A * w(batch)).mean()


def goes_through_numpy(batch):
    A = torch.from_numpy(np.argsort(batch.reward.numpy()).astype(float))
    return (A * w(batch)).mean()


def raises_inside_vmap(batch):
    if "BatchedTensor" in repr(batch.reward):
        raise RuntimeError("not here")
    return (batch.reward * w(batch)).mean()


def loops_over_responses(batch):
    total = 0.0
    for i in range(len(batch.reward)):
        total = total + batch.reward[i] * w(batch)[i] / (1 + i)
    return total


def sorts(batch):
    return (batch.reward.sort().values * w(batch).sort().values).sum()


def counts_tokens(batch):
    """Reads the width of the table it is handed."""
    return (batch.reward * w(batch)).sum() / batch.logp.shape[1]


def forgets_the_mask(batch):
    return (batch.reward[:, None] * (batch.logp - batch.logp_old).exp()).mean()


OBJECTIVES = [
    reduces_over_everything,
    branches_on_data,
    takes_items,
    works_in_place,
    goes_through_numpy,
    raises_inside_vmap,
    loops_over_responses,
    sorts,
    counts_tokens,
    forgets_the_mask,
]


def one_at_a_time(objective, batch: Batch) -> torch.Tensor:
    """Autograd on each group, cut to its longest response."""
    out = torch.zeros_like(batch.logp)
    for m in range(len(batch.logp)):
        width = int(batch.mask[m].any(dim=0).nonzero().max()) + 1
        logp = batch.logp[m, :, :width].clone().requires_grad_()
        tables = {n: getattr(batch, n)[m, :, :width].clone() for n in ("logp_old", "mask", "logp_ref")}
        value = objective(Batch(logp, reward=batch.reward[m].clone(), horizon=T, **tables))
        out[m, :, :width] = torch.autograd.grad(value, logp)[0]
    return out


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_groups_get_what_each_gets_alone(objective):
    expected = one_at_a_time(objective, BATCH)
    apart = apart_of(objective)
    torch.testing.assert_close(apart(BATCH), expected, **EXACT)
    assert apart.depends and expected.abs().max() > MOVES
    # A second call, and other leading axes, change nothing.
    torch.testing.assert_close(apart(BATCH), expected, **EXACT)
    shaped = dataclasses.replace(
        BATCH, **{n: getattr(BATCH, n)[None] for n in ("logp", "logp_old", "mask", "reward", "logp_ref")}
    )
    torch.testing.assert_close(apart_of(objective)(shaped)[0], expected, **EXACT)


@pytest.mark.parametrize("objective", [reduces_over_everything, loops_over_responses, counts_tokens])
def test_what_vmap_takes_is_evaluated_together(objective):
    apart = apart_of(objective)
    apart(BATCH)
    assert apart.together


@pytest.mark.parametrize("objective", [branches_on_data, takes_items, goes_through_numpy, raises_inside_vmap])
def test_what_vmap_does_not_take_goes_one_by_one(objective):
    apart = apart_of(objective)
    apart(BATCH)
    assert not apart.together


def test_a_group_is_as_wide_as_its_longest_response():
    seen = []

    def watching(batch):
        seen.append((batch.logp.shape[1], int(batch.mask.sum(dim=1).max())))
        float(batch.reward.sum())
        return w(batch).sum()

    c = apart_of(watching)(BATCH)
    assert seen and all(width == longest for width, longest in seen)
    assert len({width for width, _ in seen}) > 1
    assert not c[~BATCH.mask].any()


def test_a_mask_with_holes_is_as_wide_as_its_last_token():
    mask = torch.tensor([[True, False, True, False], [True, False, False, False], [False, True, True, False]])
    holes = dataclasses.replace(picked(BATCH, torch.arange(2)), mask=torch.stack([mask, mask.flip(0)]))
    c = apart_of(counts_tokens)(holes)
    torch.testing.assert_close(c, one_at_a_time(counts_tokens, holes), **EXACT)
    assert not c[..., 1:][~holes.mask[..., 1:]].any()
    # Counting the tokens would give width 2.
    assert bool(c[0, 0, 2] != 0)


def test_a_group_alone_that_disagrees_sends_all_of_them_one_by_one():
    def other_under_vmap(batch):
        factor = 2.0 if "BatchedTensor" in repr(batch.reward) else 1.0
        return factor * (batch.reward * w(batch)).sum()

    apart = apart_of(other_under_vmap)
    found = apart(BATCH)
    assert not apart.together
    torch.testing.assert_close(found, one_at_a_time(lambda b: (b.reward * w(b)).sum(), BATCH), **EXACT)


def test_the_same_without_that_comparison_would_be_wrong(monkeypatch):
    def other_under_vmap(batch):
        factor = 2.0 if "BatchedTensor" in repr(batch.reward) else 1.0
        return factor * (batch.reward * w(batch)).sum()

    monkeypatch.setattr("ticgrpo_theory.estimators.one_group.FIRST_ALONE", 10**9)
    apart = apart_of(other_under_vmap)
    monkeypatch.setattr(Apart, "mapped", unchecked)
    expected = one_at_a_time(lambda b: (b.reward * w(b)).sum(), BATCH)
    assert (apart(BATCH) - expected).abs().max() > MOVES


def unchecked(self, groups):
    names = ("logp", "logp_old", "logp_ref", "mask", "reward")

    def one(*tensors):
        return self.inside(dataclasses.replace(groups, **dict(zip(names, tensors, strict=True))))

    return torch.func.vmap(one)(*(getattr(groups, n) for n in names)).detach()


def test_randomness_goes_one_by_one():
    def noisy(batch):
        return torch.rand(()) * w(batch).sum()

    apart = apart_of(noisy)
    first, second = apart(BATCH), apart(BATCH)
    assert not apart.together and (first - second).abs().max() > MOVES


def test_a_group_whose_number_is_not_finite_is_asked_alone_and_named():
    def divides(batch):
        return (w(batch) * batch.reward).sum() / (batch.reward.sum() - float(REWARD[7].sum()))

    with pytest.raises(ValueError, match=r"the group has rewards \["):
        apart_of(divides)(BATCH)


def test_tensors_of_a_group_are_its_own():
    """What a function does to them does not reach the next group."""

    def spoils(batch):
        value = (batch.reward * w(batch)).sum()
        batch.reward.zero_()
        return value

    with pytest.raises(ValueError, match=r"changes batch.reward in place"):
        apart_of(spoils)(BATCH)
    assert bool(REWARD.any())
    with pytest.raises(ValueError, match=r"changes batch.reward in place"):
        differentiate(spoils, picked(BATCH, 0))


# Advantages of a user's own


def of_one_group(reward):
    """Reduces over everything it is given."""
    return (reward - reward.mean()) / (1 + reward.std())


def test_an_advantage_sees_the_rewards_of_one_group_at_a_time():
    expected = torch.stack([of_one_group(r) for r in REWARD])
    torch.testing.assert_close(of_rewards_apart(of_one_group)(REWARD), expected, **EXACT)
    assert (of_one_group(REWARD) - expected).abs().max() > MOVES
    with pytest.raises(ValueError, match=r"gave shape \(\) for 3 rewards: give one number for each response"):
        of_rewards_apart(lambda reward: reward.mean())(REWARD)
