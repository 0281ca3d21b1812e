"""Every part of the catalogue as a number of (group, response, token), for the tests of what it reads.

A group is drawn twice; `mixed` takes from the second drawing what a declaration allows to matter, or forbids.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.properties.tolerances import EXACT
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import (
    advantages,
    clipping,
    corrections,
    gates,
    penalties,
    products,
    ratios,
    scales,
    shapes,
    success_advantages,
    tapers,
)
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.properties import Reads
from ticgrpo_theory.exact.clip_fraction import sign_of

WIDTH, HORIZON = 4, 5


@dataclass(frozen=True)
class Group:
    """Log-ratios to theta_old and to the reference [G, 4], lengths, rewards, signs of A, pooled ratios."""

    log_ratio: Tensor
    to_reference: Tensor
    length: Tensor
    reward: Tensor
    positive: Tensor
    pooled: Tensor

    @property
    def mask(self) -> Tensor:
        return torch.arange(WIDTH) < self.length[:, None]


def drawn_groups(G: int) -> st.SearchStrategy[Group]:
    """Multiples of 1/8 in [-1, 1], lengths 1 to 4; entries at padding are numbers too."""

    def group(drawn: bytes) -> Group:
        numbers = torch.tensor(list(drawn)).reshape(G, 3 * WIDTH + 3)
        eighths = (numbers % 17 - 8).double() / 8
        log_ratio, to_reference, pooled = eighths[:, : 3 * WIDTH].reshape(G, 3, WIDTH).unbind(dim=1)
        length, reward, sign = 1 + numbers[:, -3] % WIDTH, eighths[:, -2], numbers[:, -1] % 2 == 0
        return Group(log_ratio, to_reference, length, reward, sign, pooled)

    # One draw for all numbers: a list of each would take longer than what is tested.
    size = G * (3 * WIDTH + 3)
    return st.binary(min_size=size, max_size=size).map(group)


def two_groups() -> st.SearchStrategy[tuple[Group, Group]]:
    """Two drawings of groups of one size."""
    return st.integers(2, 4).flatmap(lambda G: st.tuples(drawn_groups(G), drawn_groups(G)))


OF_TOKENS, OF_LAW = ("log_ratio", "to_reference"), ("length", "reward")
CHANGES = ("own token", "own response", "rewards and lengths", "log-probabilities of others", "order")
LEVEL = {
    "own token": Reads.OWN_TOKEN,
    "own response": Reads.OWN_RESPONSE,
    "rewards and lengths": Reads.REWARDS_AND_LENGTHS,
    "log-probabilities of others": Reads.WHOLE_GROUP,
}
"""What a change touches -> the least declaration that allows the number to move."""


def mixed(one: Group, other: Group, change: str, i: int, t: int) -> Group:
    """`one`, with what `change` says taken from `other`; signs and pooled ratios stay those of `one`."""
    own = torch.arange(len(one.length)) == i
    token = own[:, None] & (torch.arange(WIDTH) == t)
    rest = own[:, None] & ~token
    by_change = {
        "own token": (token, None),
        "own response": (rest, own),
        "rewards and lengths": (None, ~own),
        "log-probabilities of others": (~own[:, None], None),
    }
    tables, vectors = by_change[change]
    found = {}
    if tables is not None:
        found |= {name: torch.where(tables, getattr(other, name), getattr(one, name)) for name in OF_TOKENS}
    if vectors is not None:
        found |= {name: torch.where(vectors, getattr(other, name), getattr(one, name)) for name in OF_LAW}
    return dataclasses.replace(one, **found)


def reordered(group: Group, order: Tensor) -> Group:
    """The same responses in another order."""
    return dataclasses.replace(group, **{f: getattr(group, f)[order] for f in Group.__dataclass_fields__})


Number = Callable[[Group], Tensor]
"""The output of a part for a group, [G, T, ...]."""


def of_ratio(ratio: Any) -> Number:
    return lambda g: ratio(g.log_ratio, g.mask)


def of_scale(scale: Any) -> Number:
    def number(g: Group) -> Tensor:
        total = g.length.sum(dim=-1, keepdim=True)
        return scale(g.length, total, len(g.length), HORIZON)[:, None].expand(-1, WIDTH)

    return number


def of_bounds(clip: clipping.Clip) -> Number:
    def number(g: Group) -> Tensor:
        return torch.stack(clip.bounds(g.positive, g.length), dim=-1)[:, None].expand(-1, WIDTH, -1)

    return number


def of_weight(clip: clipping.Clip) -> Number:
    """The rule from ratios to weights, at pooled ratios and bounds that do not change."""

    def number(g: Group) -> Tensor:
        lo, hi = torch.where(g.positive, -0.5, -0.25).double(), torch.where(g.positive, 0.25, 0.5).double()
        return clip.weight(lambda log_ratio, mask: g.pooled, g.log_ratio, g.mask, lo[:, None], hi[:, None])

    return number


def of_shape(shape: shapes.Shape) -> Number:
    """The weights at pooled ratios that do not change; those to the reference stand for the sampler's."""

    def number(g: Group) -> Tensor:
        given = (g.log_ratio, g.mask, g.positive, g.to_reference - 2.0, g.to_reference.where(g.mask, 0.0))
        return shape.weights(lambda log_ratio, mask: g.pooled, *given)

    return number


def of_correction(correction: corrections.Correction) -> Number:
    """phi, the log-ratios to the reference standing for those to the sampler; log phi may be -inf."""
    return lambda g: correction.weight(g.to_reference.where(g.mask, 0.0), g.mask)


def of_advantage(advantage: Any) -> Number:
    return lambda g: advantage(g.reward)[:, None].expand(-1, WIDTH)


def of_update_scale(scale: scales.UpdateScale) -> Number:
    """An update of the group and a copy of it, so that any number of responses can be cut in two."""
    return lambda g: scale.over(g.length.double().expand(2, -1))[0, :, None].expand(-1, WIDTH)


def of_update_advantage(advantage: Any) -> Number:
    """An update of one group."""

    def number(g: Group) -> Tensor:
        kept = torch.ones(1, 1, dtype=torch.float64)
        return advantage.over(g.reward[None], g.length[None].double(), kept)[0, :, None].expand(-1, WIDTH)

    return number


def of_divergence(k: Any) -> Number:
    """A divergence is handed log-ratios to the reference, 0 at padding."""
    return lambda g: k(g.to_reference.where(g.mask, 0.0))


def batch_of(g: Group) -> Batch:
    """As an estimator sees the group."""
    old = torch.full_like(g.log_ratio, -2.0)
    logp = old + g.log_ratio
    return Batch(logp, old, g.reward, g.mask, logp - g.to_reference, HORIZON)


def of_response_weights(estimator: Estimator) -> Number:
    """u[i,t]: the ratio with its clip, for advantages +-1 of given signs."""

    def number(g: Group) -> Tensor:
        A = torch.where(g.positive, 1.0, -1.0).double()
        batch = batch_of(g)
        return estimator.response_weights(batch.log_ratio, A, g.mask, None, batch.logp_old)

    return number


def of_estimator(estimator: Estimator) -> Number:
    """c[i,t]; not `token_weights`, which refuses what no policy gives."""
    return lambda g: estimator.formula(batch_of(g))


RATIOS = (
    ratios.none,
    ratios.token,
    ratios.prefix,
    ratios.least_before,
    ratios.trajectory,
    ratios.geometric_mean,
)
SCALES = (scales.sequence_mean, scales.token_mean, scales.sequence_sum, scales.constant)
CORRECTIONS = (
    *(corrections.truncated(level, 0.7, 1.4) for level in corrections.LEVELS),
    *(corrections.masked(level, 0.7, 1.4) for level in corrections.LEVELS),
    *(corrections.rejected(level, 0.7, 1.4) for level in corrections.LEVELS),
    corrections.product(
        (corrections.truncated("token", None, 1.4), corrections.masked("largest", None, 1.6))
    ),
)
UPDATE_SCALES = (
    scales.batch_token_mean,
    scales.micro_batch_token_mean(2),
    scales.micro_batch_token_mean(2, "shuffled"),
    scales.length_power(),
)
UPDATE_ADVANTAGES = (
    advantages.batch_standardised(),
    advantages.group_centred_batch_std(),
    advantages.group_centred_batch_std(of="rewards"),
    advantages.token_whitened(),
    advantages.length_weighted(),
    success_advantages.group_centred_token_whitened(),
    success_advantages.centred_over_nonzero(),
)
DIVERGENCES = (penalties.k1, penalties.k2, penalties.k3, penalties.k2_of_response)
PLAIN_CLIPS = (
    clipping.unclipped(),
    clipping.two_sided(0.2, 0.3),
    clipping.upper_only(0.3),
    clipping.dual(0.2, 0.3, 1.5, 0.6),
    clipping.by_sign_and_length(0.1, 1.5, 0.6),
    gates.log_two_sided(0.3, 0.4),
    gates.inside(0.8, 1.3),
    clipping.two_sided(10.0, 10.0),
)
CLIPS = (
    *PLAIN_CLIPS,
    *(
        combined(clip)
        for clip in PLAIN_CLIPS[3:5]
        for combined in (clipping.saturating, clipping.before_pooling)
    ),
    clipping.before_pooling(clipping.saturating(clipping.by_sign_and_length(0.1, 1.5, 0.6))),
)
SHAPES = (
    shapes.sigmoid_gate(),
    shapes.gamma_weight(),
    shapes.divergence_gate("tv", 0.02, 0.02, 1.2),
    shapes.divergence_gate("kl", 0.01, 0.01, 1.2),
    tapers.inverse_if_positive(0.2, 0.2, 1.5),
    tapers.tapered(0.8, 1.2),
    tapers.position_band(0.2, 0.2, 0.2),
    products.gated(clipping.two_sided(0.2, 0.3), (products.within("token", gates.inside(0.8, 1.2)),)),
    products.gated(shapes.sigmoid_gate(), (products.within("geometric", gates.inside(0.8, 1.2), "sampler"),)),
)
ADVANTAGES = (
    advantages.standardised(),
    advantages.standardised(0.0, 1),
    advantages.centred(),
    advantages.leave_one_out(),
    advantages.raw(),
    success_advantages.over_mean(),
    advantages.known_moments(0.25, 0.5),
    advantages.population().at(0.25, 0.5),
    sign_of(advantages.standardised()),
)


def moved(number: Number, one: Group, other: Group, change: str, i: int, t: int) -> bool:
    """Whether the output at (i, t) is another one after the change."""
    before, after = number(one)[i, t], number(mixed(one, other, change, i, t))[i, t]
    return not torch.allclose(before, after, **EXACT)


def follows(number: Number, one: Group, order: torch.Tensor) -> bool:
    """Whether the output moves along with the responses."""
    before, after = number(one)[order], number(reordered(one, order))
    mask = one.mask[order]
    return torch.allclose(before[mask], after[mask], **EXACT)


QUICK = settings(max_examples=8, suppress_health_check=list(HealthCheck))
PLANTED = settings(
    QUICK, max_examples=200, phases=(Phase.generate,), database=None, derandomize=True, print_blob=False
)


def check_reads_no_more(number: Number, level: Reads, how: settings = QUICK) -> None:
    """What `level` does not allow leaves the output where it is; below WHOLE_GROUP so does any reordering."""

    @how
    @given(two_groups(), st.data())
    def held_to_account(groups, data):
        one, other = groups
        i = data.draw(st.integers(0, len(one.length) - 1))
        t = data.draw(st.integers(0, min(int(one.length[i]), int(other.length[i])) - 1))
        for change, needed in LEVEL.items():
            if level < needed:
                assert not moved(number, one, other, change, i, t), change
        if level < Reads.WHOLE_GROUP:
            order = torch.tensor(data.draw(st.permutations(range(len(one.length)))))
            assert follows(number, one, order), f"order {order.tolist()}"

    held_to_account()


def self_normalised(log_ratio, mask):
    """Reads the log-probabilities of the whole group."""
    log_w = log_ratio.where(mask, 0.0).sum(dim=-1, keepdim=True)
    return (log_w - log_w.logsumexp(dim=-2, keepdim=True)).expand_as(log_ratio).where(mask, 0.0)
