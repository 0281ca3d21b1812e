"""Every deliberate mistake is caught by the check that it names, and that check is part of a test."""

import inspect
from collections.abc import Callable
from functools import partial

import pytest

from tests.mutants.mutants import Mutant, plant
from tests.mutants.mutants_of_axes import ADVANTAGES, CLIPS, RATIOS, SCALES
from tests.mutants.mutants_of_bounds import BOUNDS
from tests.mutants.mutants_of_checks import CHECKS
from tests.mutants.mutants_of_corrections import CORRECTIONS
from tests.mutants.mutants_of_estimators import ESTIMATOR, LOSSES
from tests.mutants.mutants_of_groups import GROUPS
from tests.mutants.mutants_of_moments import MOMENTS
from tests.mutants.mutants_of_updates import UPDATES
from tests.mutants.mutants_of_worlds import EXACT_VALUES, WORLDS
from tests.thinned import one_in

MUTANTS = [
    *ADVANTAGES,
    *RATIOS,
    *CLIPS,
    *SCALES,
    *ESTIMATOR,
    *LOSSES,
    *WORLDS,
    *EXACT_VALUES,
    *MOMENTS,
    *BOUNDS,
    *GROUPS,
    *CORRECTIONS,
    *UPDATES,
    *CHECKS,
]
CAUGHT = (AssertionError, ValueError, pytest.fail.Exception)
"""A check fails by an assertion, by a refusal where it expects a number, or by the lack of one."""


# The checks themselves are parts of tests that run by default: below.
@pytest.mark.parametrize("mutant", one_in(12, MUTANTS), ids=lambda mutant: mutant.name)
def test_the_named_check_catches_the_mistake(mutant, monkeypatch):
    with monkeypatch.context() as patch:
        plant(mutant, patch)
        with pytest.raises(CAUGHT):
            mutant.check()
    # Without the mistake it passes: it is the mistake that was caught.
    mutant.check()


LEFT_OUT = {"slow", "more"}
"""Marks of tests that the default run leaves out."""


def marks_of(test: Callable) -> set[str]:
    """The marks of the whole test and of its module; those of single cases are not among them."""
    whole = getattr(inspect.getmodule(inspect.unwrap(test)), "pytestmark", [])
    own = getattr(test, "pytestmark", [])
    return {mark.name for mark in [*own, *(whole if isinstance(whole, list) else [whole])]}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_check_is_one_that_a_test_runs(mutant):
    check = mutant.check.func if isinstance(mutant.check, partial) else mutant.check
    module = inspect.getmodule(check)
    callers = [
        f
        for name, f in vars(module).items()
        if name.startswith("test_") and inspect.isfunction(f) and not LEFT_OUT & marks_of(f)
    ]
    assert any(f"{check.__name__}(" in inspect.getsource(inspect.unwrap(f)) for f in callers)


def test_mistakes_have_names_of_their_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_an_edit_that_changes_nothing_is_not_caught(monkeypatch):
    first = MUTANTS[0]
    harmless = Mutant("none", first.function, first.old, f"({first.old})", first.check)
    plant(harmless, monkeypatch)
    first.check()


def test_a_mutant_that_lost_its_text_is_an_error(monkeypatch):
    lost = Mutant("lost", MUTANTS[0].function, "no such text", "", MUTANTS[0].check)
    with pytest.raises(
        LookupError, match=r"'no such text', which stands 0 times in standardised\.of_moments; quote"
    ):
        plant(lost, monkeypatch)
