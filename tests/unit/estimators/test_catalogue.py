"""catalogue.py: the promised names, what each is made of, its citation, and what an unknown name gets."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from itertools import combinations

import pytest

from ticgrpo_theory.estimators import ESTIMATORS, Estimator, catalogue
from ticgrpo_theory.estimators.advantages import centred, leave_one_out, raw, standardised
from ticgrpo_theory.estimators.catalogue import CITATIONS, FACTORIES, FIRST, name_of
from ticgrpo_theory.estimators.clipping import (
    before_pooling,
    by_sign_and_length,
    dual,
    saturating,
    two_sided,
    unclipped,
    upper_only,
)
from ticgrpo_theory.estimators.estimator import current, old
from ticgrpo_theory.estimators.gates import log_two_sided
from ticgrpo_theory.estimators.ratios import geometric_mean, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import constant, sequence_mean, sequence_sum, token_mean

STD = standardised(delta=1e-6, ddof=0)
TABLE = {
    "grpo": (token, STD, two_sided(0.2, 0.2), sequence_mean, current),
    "dapo": (token, STD, two_sided(0.2, 0.28), token_mean, current),
    "dr_grpo": (token, centred(), two_sided(0.2, 0.2), constant, current),
    "no_is": (none, STD, unclipped(), sequence_mean, current),
    "stale": (none, STD, unclipped(), sequence_mean, old),
    "tic_grpo": (trajectory, STD, upper_only(0.28), sequence_sum, current),
    "tic_grpo_eq11": (trajectory, STD, upper_only(0.28), sequence_mean, current),
    "tic_grpo_released": (trajectory, STD, by_sign_and_length(0.01, 3.0, 20.0), sequence_sum, current),
    "seq_clip": (trajectory, STD, dual(0.2, 0.28, 3.0, 20.0), token_mean, current),
    "gspo": (geometric_mean, STD, two_sided(0.2, 0.28), sequence_mean, current),
    "gspo_narrow": (geometric_mean, STD, two_sided(3e-4, 4e-4), sequence_mean, current),
    "cispo": (token, STD, saturating(upper_only(0.28)), token_mean, current),
    "gmpo": (geometric_mean, STD, before_pooling(log_two_sided(0.4, 0.4)), sequence_mean, current),
    "rloo": (none, leave_one_out(), unclipped(), sequence_sum, current),
    "reinforce": (none, raw(), unclipped(), sequence_sum, current),
    "trajectory_is": (trajectory, leave_one_out(), unclipped(), sequence_sum, current),
    "prefix_is": (prefix, leave_one_out(), unclipped(), sequence_sum, current),
}


def check_entry(name: str) -> None:
    entry = ESTIMATORS[name]
    assert (entry.ratio, entry.advantage, entry.clip, entry.scale, entry.score) == TABLE[name]
    assert entry.penalty is None


def test_the_catalogue_has_exactly_the_promised_names():
    assert list(ESTIMATORS) == [factory.__name__ for factory in FACTORIES]
    assert set(FIRST) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_every_entry_is_made_of_the_promised_parts(name):
    check_entry(name)


def test_no_two_entries_are_the_same():
    assert all(ESTIMATORS[a] != ESTIMATORS[b] for a, b in combinations(ESTIMATORS, 2))


def check_factory(factory: Callable[..., Estimator]) -> None:
    assert factory is getattr(catalogue, factory.__name__)
    assert factory() == ESTIMATORS[factory.__name__]
    assert all(
        p.default is not inspect.Parameter.empty for p in inspect.signature(factory).parameters.values()
    )


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_factory_of_the_same_name_makes_the_entry(factory):
    check_factory(factory)


PLACE = re.compile(
    r"arXiv:\d{4}\.\d{5} v\d|commit [0-9a-f]{7}|\(19\d\d\), Theorem \d|ICML \d{4}, Sec\. \d"
    r"|TRL 1\.16|verl[,']|Tinker"
)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_entry_cites_a_version_and_a_place(name):
    assert PLACE.search(CITATIONS[name]), CITATIONS[name]


@pytest.mark.parametrize(
    "wrong, nearest",
    [
        ("gpro", "grpo"),
        ("tic-grpo", "tic_grpo"),
        ("GSPO", "gspo"),
        ("trajectory", "trajectory_is"),
        ("dr.grpo", "dr_grpo"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(wrong, nearest):
    message = rf"unknown estimator '{re.escape(wrong)}'; nearest names: .*\b{nearest}\b"
    with pytest.raises(ValueError, match=message):
        _ = ESTIMATORS[wrong]


def test_a_name_like_no_other_is_refused_with_all_of_them():
    with pytest.raises(
        ValueError, match=r"unknown estimator '###'; nearest names: aspo, cispo, .*, trajectory_is"
    ):
        _ = ESTIMATORS["###"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_entry_knows_its_name_and_a_variant_its_formulas(name):
    assert name_of(ESTIMATORS[name]) == name
    variant = dataclasses.replace(ESTIMATORS[name], advantage=standardised(0.123))
    assert name_of(variant) == variant.describe() != ESTIMATORS[name].describe()


def test_what_is_no_estimator_is_named_by_itself():
    assert name_of(len) == repr(len)
    assert isinstance(ESTIMATORS["grpo"], Estimator)
