"""batches.py: how many groups K inner steps read, and what a single step makes of it."""

import pytest

from ticgrpo_theory.estimators.batches import Batches


@pytest.mark.parametrize(("name", "drawn"), [("reused", [1, 1, 1]), ("disjoint", [1, 2, 5])])
def test_reused_groups_are_drawn_once_and_disjoint_ones_for_every_step(name, drawn):
    assert [Batches.of(name).drawn(K) for K in (1, 2, 5)] == drawn


def test_a_single_step_has_one_batch_which_counts_as_reused():
    assert Batches.DISJOINT.made(1) is Batches.REUSED.made(1) is Batches.REUSED.made(4) is Batches.REUSED
    assert Batches.DISJOINT.made(2) is Batches.DISJOINT


@pytest.mark.parametrize("name", ["Reused", "", "fresh"])
def test_another_name_is_refused_with_the_names_there_are(name):
    with pytest.raises(ValueError, match=r"batches = .*: choose 'reused' .* or 'disjoint'"):
        Batches.of(name)
