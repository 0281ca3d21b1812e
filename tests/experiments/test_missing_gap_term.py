"""For fixed N the left side stays at its start while the printed rate vanishes: digits, claim and partner."""

import pandas as pd
import pytest

from experiments import missing_gap_term as experiment_script
from tests.thinned import more

pytestmark = more

PRINTED = {1: 7.18e-2, 10: 7.18e-2, 100: 7.22e-2, 1000: 7.30e-2}
"""At eta K = 1e-3 and G = 4096; groups of 512 already give these digits."""


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    small = experiment_script.Config(spans=(0.001,), group_sizes=(512,), replicates=4)
    large = experiment_script.Config(spans=(0.1,), group_sizes=(64,), replicates=2)
    found = experiment_script.rows(small) + experiment_script.rows(large)
    return pd.DataFrame(found).set_index(["eta_K", "N"])


@pytest.mark.parametrize("N", PRINTED)
def test_the_left_sides_come_out_to_the_printed_digits(made, N):
    """Replicates differ by less than a unit of the last digit: 5 standard errors of one are allowed for."""
    row = made.loc[(0.001, N)]
    assert row.left == pytest.approx(PRINTED[N], abs=0.5001e-4 + 5 * row.standard_error)
    assert row.standard_error < 2e-5


def test_the_left_side_exceeds_any_bound_without_the_gap_and_none_with_it(made):
    small = made.loc[0.001]
    assert (small.left > 100 * small.printed).all() and (small.left <= small.corrected).all()
    assert (abs(small.left / small.start - 1) < 0.05).all()
    # Partner: after enough large steps the gap has been crossed, and the order eta K alone is a bound.
    late = made.loc[(0.1, 1000)]
    assert late.left < late.printed


def test_the_constant_that_the_printed_rate_needs_grows_without_bound(made):
    needed = made.constant_needed
    assert needed[(0.001, 1)] > 30 * needed[(0.1, 1)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"spans": (0.0,)}, "give N >= 1, eta K > 0 and groups of at least 2"),
        ({"outer_steps": (0, 10)}, "outer_steps = .0, 10."),
        ({"start": 1.0}, "start = 1.0, replicates = 4: pi.0. lies between 0 and 1"),
        ({"outer_steps": (1, 1)}, "give at least one, and none twice"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(experiment_script.Config(**change))


def test_the_script_writes_rows_and_a_figure(tmp_path):
    cfg = experiment_script.Config(
        outer_steps=(1, 3),
        spans=(0.1, 0.01),
        group_sizes=(4,),
        replicates=2,
        results=tmp_path / "results",
        figures=tmp_path / "figures",
    )
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "missing_gap_term.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "missing_gap_term.png").stat().st_size > 10_000
