"""penalty_gradient against groups written out with loops, and kl_exact against a loss of full logits."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given

from tests.instances.penalty_lines import A_FEW, Point, point, points, tensor
from tests.oracles.definitions import GroupGradient, add, ordered_groups, probabilities, token_logps, zeros
from tests.properties.tolerances import EXACT
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.catalogue import dapo, grpo
from ticgrpo_theory.estimators.penalties import held, k1, k2, k3, kl_exact, kl_loss, kl_reward
from ticgrpo_theory.estimators.ratios import none, prefix, token, trajectory
from ticgrpo_theory.exact.penalties.penalised import penalty_gradient

# Penalised rewards that should be equal differ by a rounding error, which delta = 0 would blow up to +-1.
DELTA = 0.125


class Shaped(GroupGradient):
    """Groups whose weights know the reference: reward shaped, or penalty added, with loops."""

    def __init__(self, p: Point, world, estimator: str, reward: Callable, loss: Callable) -> None:
        super().__init__(world, p.theta.tolist(), p.old.tolist(), estimator, {"delta": DELTA})
        self.reference, self.reward, self.loss = token_logps(world, p.reference.tolist()), reward, loss

    def weights(self, members):
        kept = self.world
        responses = list(kept.responses)
        for i in set(members):
            tokens, rows, r = responses[i]
            spent = sum(self.reward(x - y) for x, y in zip(self.logp_old[i], self.reference[i], strict=True))
            responses[i] = (tokens, rows, r - spent)
        self.world = dataclasses.replace(kept, responses=responses)
        weights = super().weights(members)
        self.world = kept
        lengths = [len(self.logp[i]) for i in members]
        for row, i in zip(weights, members, strict=True):
            for t in range(len(row)):
                row[t] += self.loss(i, t, lengths, self)
        return weights


def k2_per_sequence(i: int, t: int, lengths: list[int], g: Shaped) -> float:
    """- beta d / (G |s_i|), beta = 1/2."""
    return -0.5 * (g.logp[i][t] - g.reference[i][t]) / (len(lengths) * len(g.logp[i]))


def token_k3_per_token(i: int, t: int, lengths: list[int], g: Shaped) -> float:
    """- beta w (k3(d) + 1 - exp(-d)) / sum_j |s_j| = - beta w d / sum_j |s_j|, beta = 1/2."""
    return (
        -0.5 * math.exp(g.logp[i][t] - g.logp_old[i][t]) * (g.logp[i][t] - g.reference[i][t]) / sum(lengths)
    )


@pytest.mark.parametrize(
    ("name", "penalty", "reward", "loss"),
    [
        ("grpo", kl_reward(k1, 0.5), lambda d: 0.5 * d, lambda *_: 0.0),
        ("grpo", kl_reward(k3, 0.5), lambda d: 0.5 * (math.exp(-d) - 1 + d), lambda *_: 0.0),
        ("grpo", kl_loss(k2, 0.5), lambda d: 0.0, k2_per_sequence),
        ("dapo", kl_loss(k3, 0.5, token), lambda d: 0.0, token_k3_per_token),
    ],
)
@A_FEW
@given(drawn=points(largest=4))
def test_groups_written_out_give_the_same_contribution(name, penalty, reward, loss, drawn):
    p, total = point(drawn), zeros(drawn[0].prompts[0][1])
    for q, world in drawn[0].prompts:
        for sign, g in (
            (q, Shaped(p, world, name, reward, loss)),
            (-q, Shaped(p, world, name, lambda d: 0.0, lambda *_: 0.0)),
        ):
            for members, weight in ordered_groups(probabilities(world, p.old.tolist()), 2):
                add(total, g(members), sign * weight)
    estimator = {"grpo": grpo, "dapo": dapo}[name](delta=DELTA)
    found = penalty_gradient(p.mdp, p.theta, p.old, p.reference, penalty, estimator, group_size=2)
    torch.testing.assert_close(found, tensor(total), **EXACT)


LENGTHS = torch.tensor([3, 1, 2])


def group_with_logits() -> tuple[Batch, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three responses of unequal length over four tokens: the batch, logits, tokens and reference logits."""
    i, t, a = torch.arange(3)[:, None, None], torch.arange(3)[:, None], torch.arange(4)
    logits, reference, old = (
        ((x * i + y * t + z * a) % 7).double() / 4 for x, y, z in ((1, 3, 5), (2, 5, 3), (4, 1, 2))
    )
    tokens = (i + 2 * t)[..., 0] % 4
    mask = torch.arange(3) < LENGTHS[:, None]

    def picked(table: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(table, -1).gather(-1, tokens[..., None])[..., 0].where(mask, math.nan)

    batch = Batch(picked(logits), picked(old), torch.zeros(3).double(), mask, picked(reference), horizon=3)
    return batch, logits, tokens, reference


@pytest.mark.parametrize("ratio", [none, token, prefix, trajectory, held(trajectory)])
def test_the_parts_of_kl_exact_are_the_gradient_of_its_loss(ratio):
    batch, logits, tokens, reference = group_with_logits()
    penalty, scale = kl_exact(0.5, ratio), torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    x = logits.clone().requires_grad_()
    logp = torch.log_softmax(x, -1)
    divergence = (logp.exp() * (logp - torch.log_softmax(reference, -1))).sum(-1)
    drawn = logp.gather(-1, tokens[..., None])[..., 0]
    v = ratio((drawn - batch.logp_old).where(batch.mask, 0.0), batch.mask)
    loss = (-0.5 * scale[:, None] * v.exp() * divergence.where(batch.mask, 0.0)).sum()
    (whole,) = torch.autograd.grad(loss, x, retain_graph=True)
    # The two parts, each pulled back through the full logits with its weights held.
    by_state = penalty.state_weights(batch.logp, batch, scale)
    by_ratio = penalty.ratio_weights(batch, scale, divergence.detach())
    parts = (by_state * divergence).sum() + (by_ratio * drawn).sum()
    torch.testing.assert_close(torch.autograd.grad(parts, x)[0], whole, **EXACT)


def test_kl_exact_has_no_weights_for_sampled_tokens():
    batch, *_ = group_with_logits()
    carrying = dataclasses.replace(grpo(), penalty=kl_exact(0.5))
    with pytest.raises(
        ValueError, match=r"kl_exact\(beta=0.5.* over the vocabulary .* use expected_gradient"
    ):
        carrying.token_weights(batch)
