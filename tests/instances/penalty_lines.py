"""What each penalty contributes: lines of (penalty, estimator, the gradient that it is in expectation)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from hypothesis import settings
from hypothesis import strategies as st

from tests.properties.strategies import mdps_with_two_policies, tables
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.penalties import (
    Penalty,
    held,
    k1,
    k2,
    k2_of_response,
    k3,
    kl_exact,
    kl_loss,
    kl_reward,
)
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact.penalties.divergence import (
    expected_divergence,
    frozen_divergence,
    half_squared,
    kl_from_reference,
)
from ticgrpo_theory.exact.penalties.penalised import penalty_gradient
from ticgrpo_theory.mdp import TokenMDP


def tensor(table: list) -> torch.Tensor:
    return torch.tensor(table, dtype=torch.float64)


class Point(NamedTuple):
    """The policies of one comparison: `old` drew the responses."""

    mdp: TokenMDP
    theta: torch.Tensor
    old: torch.Tensor
    reference: torch.Tensor

    @property
    def on_policy(self) -> "Point":
        return self._replace(old=self.theta)


Target = Callable[[Point], torch.Tensor]


def zero(p: Point) -> torch.Tensor:
    return torch.zeros_like(p.theta)


def sequence(p: Point) -> torch.Tensor:
    return expected_divergence(p.mdp, p.theta, p.reference).gradient


def sequence_half(p: Point) -> torch.Tensor:
    return expected_divergence(p.mdp, p.theta, p.reference, half_squared).gradient


def frozen(p: Point) -> torch.Tensor:
    return frozen_divergence(p.mdp, p.theta, p.old, p.reference).gradient


def frozen_at_theta(p: Point) -> torch.Tensor:
    return frozen(p.on_policy)


def frozen_half(p: Point) -> torch.Tensor:
    return frozen_divergence(p.mdp, p.theta, p.old, p.reference, half_squared).gradient


def frozen_reverse(p: Point) -> torch.Tensor:
    return frozen_divergence(p.mdp, p.theta, p.old, p.reference, kl_from_reference).gradient


def away_from_old(p: Point) -> torch.Tensor:
    return -frozen_reverse(p._replace(reference=p.old))


def sequence_less_old(p: Point) -> torch.Tensor:
    return sequence(p) - sequence(p._replace(reference=p.old))


EVERYWHERE: list[tuple[Penalty, Estimator, Target]] = []
ON_POLICY: list[tuple[Penalty, Estimator, Target]] = []


def plain(ratio: Callable = none) -> Estimator:
    return Estimator(ratio, raw(), unclipped(), sequence_sum)


for k in (k1, k3):
    EVERYWHERE += [(kl_loss(k, 1.0, token), plain(), frozen)]
    EVERYWHERE += [(kl_loss(k, 1.0, pooled), plain(), sequence) for pooled in (prefix, trajectory)]
EVERYWHERE += [(kl_exact(1.0, ratio), plain(), frozen) for ratio in (none, token, held(token))]
EVERYWHERE += [(kl_exact(1.0, ratio), plain(), sequence) for ratio in (prefix, trajectory)]
EVERYWHERE += [(kl_loss(k2, 1.0, ratio), plain(), sequence_half) for ratio in (prefix, trajectory)]
EVERYWHERE += [
    (kl_loss(k1, 1.0), plain(), away_from_old),
    (kl_loss(k2, 1.0, token), plain(), frozen_half),
    (kl_loss(k1, 1.0, held(token)), plain(), zero),
    (kl_loss(k2, 1.0, held(token)), plain(), frozen),
    (kl_loss(k3, 1.0, held(token)), plain(), frozen_reverse),
    (kl_loss(k2, 1.0, held(trajectory)), plain(), frozen_at_theta),
    (kl_loss(k2_of_response, 1.0, held(trajectory)), plain(), sequence),
    (kl_reward(k1, 1.0), plain(trajectory), sequence_less_old),
]
ON_POLICY += [
    (kl_loss(k1, 1.0), plain(), zero),
    (kl_loss(k2, 1.0), plain(), frozen),
    (kl_loss(k3, 1.0), plain(), frozen_reverse),
    (kl_loss(k2_of_response, 1.0), plain(), sequence),
]
for ratio in (none, token, prefix, trajectory):
    ON_POLICY += [
        (kl_reward(k1, 1.0), plain(ratio), sequence),
        (kl_reward(k2, 1.0), plain(ratio), lambda p: sequence_half(p) - frozen(p)),
        (kl_reward(k3, 1.0), plain(ratio), lambda p: sequence(p) - frozen_reverse(p)),
    ]


def contribution(p: Point, penalty: Penalty, estimator: Estimator, group_size: int = 1) -> torch.Tensor:
    """What the penalty adds to the gradient, over -beta = -1: the gradient of the penalty that is paid."""
    return -penalty_gradient(p.mdp, p.theta, p.old, p.reference, penalty, estimator, group_size)


A_FEW = settings(max_examples=settings.default.max_examples // 3)
"""For properties whose every example takes a tenth of a second."""


@st.composite
def points(draw, largest: int):
    """The case, and a reference; worlds are built outside the strategy."""
    case = draw(mdps_with_two_policies(largest))
    return case, draw(tables(len(case.theta), len(case.theta[0])))


def point(drawn) -> Point:
    case, reference = drawn
    return Point(case.mdp, tensor(case.theta), tensor(case.theta_old), tensor(reference))


# Two tokens, three rows, all probabilities uneven; theta_old and the reference at a distance of order one.
WITNESS = Point(
    TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=lambda y: float(y == (0, 1))),
    tensor([[0.5, 0.0], [-0.5, 0.5], [1.0, 0.0]]),
    tensor([[-0.5, 0.5], [0.5, 0.0], [-0.5, 0.5]]),
    tensor([[0.0, 1.0], [1.5, -0.5], [0.0, 0.5]]),
)


MISSES: list[tuple[Penalty, Callable, Target, Point]] = [
    # The loss of each k on-policy, and what it is often taken for.
    (kl_loss(k1, 1.0), none, frozen, WITNESS.on_policy),
    (kl_loss(k2, 1.0), none, sequence, WITNESS.on_policy),
    (kl_loss(k3, 1.0), none, frozen, WITNESS.on_policy),
    (kl_loss(k3, 1.0), none, sequence, WITNESS.on_policy),
    (kl_exact(1.0), none, sequence, WITNESS.on_policy),
    # The token ratio repairs k3 for frozen states only, and spoils k2; the mean ratio repairs nothing.
    (kl_loss(k3, 1.0, token), none, sequence, WITNESS.on_policy),
    (kl_loss(k3, 1.0, token), none, frozen_at_theta, WITNESS),
    (kl_loss(k1, 1.0, token), none, sequence, WITNESS),
    (kl_loss(k2, 1.0, token), none, frozen, WITNESS.on_policy),
    (kl_loss(k2, 1.0, token), none, sequence, WITNESS.on_policy),
    (kl_loss(k3, 1.0, geometric_mean), none, frozen, WITNESS.on_policy),
    (kl_loss(k3, 1.0, geometric_mean), none, sequence, WITNESS.on_policy),
    # Off-policy, what was right on-policy.
    (kl_loss(k1, 1.0), none, zero, WITNESS),
    (kl_loss(k2, 1.0), none, frozen, WITNESS),
    (kl_loss(k3, 1.0), none, frozen_reverse, WITNESS),
    (kl_loss(k2_of_response, 1.0), none, sequence, WITNESS),
    (kl_reward(k1, 1.0), none, sequence, WITNESS),
    (kl_reward(k1, 1.0), token, sequence_less_old, WITNESS),
    (kl_reward(k1, 1.0), trajectory, sequence, WITNESS),
    # In the reward, k3 has the right mean and the wrong gradient.
    (kl_reward(k2, 1.0), none, sequence, WITNESS.on_policy),
    (kl_reward(k3, 1.0), none, sequence, WITNESS.on_policy),
    (kl_reward(k3, 1.0), trajectory, sequence, WITNESS),
]
