"""properties.py: what every part declares that it reads, held against its function on random groups."""

from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import pytest
import torch

from tests.unit.estimators import declarations as parts
from tests.unit.estimators.declarations import (
    ADVANTAGES,
    CLIPS,
    CORRECTIONS,
    DIVERGENCES,
    PLANTED,
    RATIOS,
    SCALES,
    SHAPES,
    UPDATE_ADVANTAGES,
    UPDATE_SCALES,
    Number,
    check_reads_no_more,
    self_normalised,
)
from ticgrpo_theory.estimators import (
    ESTIMATORS,
    Estimator,
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
from ticgrpo_theory.estimators import properties as declared_properties
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.catalogue import FIRST, OF_ONE_GROUP
from ticgrpo_theory.estimators.clipping import (
    before_pooling,
    by_sign_and_length,
    saturating,
)
from ticgrpo_theory.estimators.penalties import held, k3, kl_exact, kl_loss, kl_reward
from ticgrpo_theory.estimators.properties import Reads, declared, is_ours, joined
from ticgrpo_theory.estimators.ratios import geometric_mean, none, token, trajectory
from ticgrpo_theory.estimators.scales import kept, token_mean
from ticgrpo_theory.exact.clip_fraction import sign_of
from ticgrpo_theory.exact.groups.in_update import InUpdate


@dataclass(frozen=True)
class Part:
    """One part: its output, the function that its declaration stands on, and how the declaration is read."""

    name: str
    number: Number
    function: Any
    of: Any = None

    @property
    def level(self) -> Reads:
        found = declared(self.function, self.of)
        assert found is not None, f"{self.name} declares nothing"
        return found


PARTS = [
    *(Part(f.__name__, parts.of_ratio(f), f) for f in RATIOS),
    *(Part(f"held({f.__name__})", parts.of_ratio(held(f)), held.__call__, held(f)) for f in RATIOS),
    *(Part(f.__name__, parts.of_scale(f), f) for f in SCALES),
    Part("kept", parts.of_scale(kept(token_mean)), kept.__call__, kept(token_mean)),
    *(Part(repr(c), parts.of_correction(c), type(c).log_weight, c) for c in CORRECTIONS),
    *(Part(f.__name__, parts.of_divergence(f), f) for f in DIVERGENCES),
    *(Part(f"bounds of {c!r}", parts.of_bounds(c), type(c).bounds, c) for c in CLIPS),
    *(Part(f"weight of {c!r}", parts.of_weight(c), type(c).weight, c) for c in CLIPS),
    *(Part(repr(s), parts.of_shape(s), shapes.formula_of(s), s) for s in SHAPES),
    *(Part(repr(a), parts.of_advantage(a), type(a).of_moments, a) for a in ADVANTAGES),
    *(Part(repr(f), parts.of_update_scale(f), type(f).__call__, f) for f in UPDATE_SCALES),
    *(Part(repr(a), parts.of_update_advantage(a), type(a).__call__, a) for a in UPDATE_ADVANTAGES),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_reads_no_more_than_it_declares(part):
    check_reads_no_more(part.number, part.level)


def of_declaration(part: Part) -> Any:
    """The function whose entry makes `part` declare what it declares."""
    found, of = part.function, part.of
    if found is held.__call__:
        return of.ratio
    if found is sign_of.of_moments:
        return type(of.advantage).of_moments
    while found in (saturating.bounds, before_pooling.bounds):
        of = of.clip
        found = type(of).bounds
    return found


@pytest.mark.parametrize("part", [p for p in PARTS if p.level > Reads.NOTHING], ids=lambda part: part.name)
def test_a_declaration_lowered_by_one_is_caught_by_that_test(part, monkeypatch):
    """So that none is wider than need be, and the test above can fail."""
    lower = Reads(part.level - 1)
    monkeypatch.setitem(declared_properties._DECLARED, of_declaration(part), lower)
    assert part.level == lower
    with pytest.raises(AssertionError):
        check_reads_no_more(part.number, part.level, PLANTED)


def by_place(log_ratio, mask):
    """Reads where in the group a response stands, and nothing else of the others."""
    return log_ratio.where(mask, 0.0) * torch.arange(1.0, len(log_ratio) + 1)[:, None]


@pytest.mark.parametrize("ratio", [self_normalised, by_place])
def test_a_part_that_reads_others_or_its_position_is_caught(ratio):
    check_reads_no_more(parts.of_ratio(ratio), Reads.WHOLE_GROUP)
    with pytest.raises(AssertionError):
        check_reads_no_more(parts.of_ratio(ratio), Reads.REWARDS_AND_LENGTHS, PLANTED)


EVERY = [
    Estimator(ratio, standardised(), clip, token_mean, penalty=penalty)
    for ratio in (token, geometric_mean)
    for clip in (by_sign_and_length(0.1, 1.5, 0.6), *CLIPS[-2:])
    for penalty in (None, kl_loss(k3, 0.2, trajectory))
]


@pytest.mark.parametrize(
    "estimator", [*map(ESTIMATORS.get, OF_ONE_GROUP), *EVERY], ids=lambda e: e.describe()[:60]
)
def test_an_estimator_reads_no_more_than_its_properties_say(estimator):
    found = estimator.properties
    assert found.known and not found.couples and found.why_unknown() == ""
    check_reads_no_more(parts.of_response_weights(estimator), found.weights)
    whole = joined(found.weights, found.advantage, found.scale)
    if estimator.penalty is None:
        check_reads_no_more(parts.of_estimator(estimator), whole)
    assert found.held == (estimator.ratio is none)


def test_a_penalty_counts_among_the_weights():
    plain = replace(ESTIMATORS["stale"], penalty=kl_loss(k3, 0.2, none))
    assert ESTIMATORS["stale"].properties.held and not plain.properties.held
    assert plain.properties.weights == Reads.OWN_TOKEN
    pooled = replace(plain, penalty=kl_loss(k3, 0.2, trajectory))
    assert pooled.properties.weights == Reads.OWN_RESPONSE
    assert replace(plain, penalty=kl_reward(k3, 0.2)).properties.known
    assert replace(plain, penalty=kl_exact(0.2, held(trajectory))).properties.known


# Nothing is left out


def classes(module: Any, kind: type) -> set[type]:
    found = {x for x in vars(module).values() if isinstance(x, type) and issubclass(x, kind)}
    return {x for x in found if x.__module__ == module.__name__ and x is not kind}


def functions(module: Any) -> set[str]:
    """Public functions that map tensors to tensors, by their signature."""
    found = {name for name, f in vars(module).items() if getattr(f, "__module__", "") == module.__name__}
    called = {n for n in found if isinstance(vars(module)[n], FunctionType)}
    first = {n: next(iter(vars(module)[n].__annotations__.values()), None) for n in called}
    return {n for n, kind in first.items() if kind is not None and "Tensor" in repr(kind) + str(kind)}


def test_no_part_of_the_catalogue_is_left_out():
    assert {f.__name__ for f in RATIOS} == functions(ratios)
    assert {f.__name__ for f in SCALES} == functions(scales) - {"pools_lengths", "shuffled_means"}
    assert {f.__name__ for f in DIVERGENCES} <= functions(penalties)
    assert {type(c) for c in CLIPS} == classes(clipping, clipping.Clip) | classes(gates, clipping.Clip)
    assert {type(s) for s in SHAPES} == set().union(
        *(classes(module, shapes.Shape) for module in (shapes, tapers, products))
    )
    tried = {type(a) for a in ADVANTAGES} | {advantages.population}
    known = classes(advantages, advantages.Advantage) | {success_advantages.over_mean}
    assert tried == known | {sign_of}
    for kind in classes(clipping, clipping.Clip):
        clip = next(c for c in CLIPS if type(c) is kind)
        assert declared(kind.bounds, clip) is not None and declared(kind.weight, clip) is not None
    assert {type(c) for c in CORRECTIONS} == classes(corrections, corrections.Correction) - {
        corrections.Bounded
    }
    for kind in classes(advantages, advantages.Advantage):
        assert declared(kind.of_moments) is not None
    # Everything that carries a declaration in the package is in the lists above.
    tested = {of_declaration(part) for part in PARTS} | {held.__call__, advantages.population.of_moments}
    tested |= {
        shapes.Shape.bounds,
        sign_of.of_moments,
        saturating.bounds,
        before_pooling.bounds,
        InUpdate.__call__,
    }
    assert {f for f in declared_properties._DECLARED if is_ours(f)} == tested


@pytest.mark.parametrize("name", sorted(FIRST))
def test_everything_is_known_of_the_catalogue(name):
    found = ESTIMATORS[name].properties
    assert found.known and found.advantage_known and not found.undeclared and not found.claimed
