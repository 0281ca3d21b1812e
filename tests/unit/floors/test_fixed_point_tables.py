"""fixed_point_tables.py: how a floor changes with G, and what a table shows for a root that is zero."""

import math

import pandas as pd
import pytest
from rich.console import Console

from ticgrpo_theory.floors.fixed_point_tables import change, check_sizes, fixed_point_table


def floors(**changes) -> pd.DataFrame:
    """Two group sizes of one line, the larger first."""
    columns = {
        "line": ["grpo", "grpo"],
        "group_size": [64, 4],
        "fixed_point": [0.5, 0.6625],
        "root": [3e-17, 0.0104],
        "first_order": [1e-3, 2e-3],
        "floor": [1.0, 4.0],
        "half": [0.03, 0.16],
    }
    return pd.DataFrame(columns | changes)


def test_the_change_is_a_ratio_with_the_interval_of_both_ends():
    ratio, half = change(floors())
    assert ratio == 0.25
    assert half == pytest.approx(0.25 * math.hypot(0.03 / 1.0, 0.16 / 4.0))
    assert change(floors(half=[0.0, 0.0]))[1] == 0.0


def test_a_root_below_rounding_is_shown_as_zero():
    console = Console(width=120, record=True)
    console.print(fixed_point_table(floors(), ["grpo"], "a world"))
    small, large = (line for line in console.export_text().splitlines() if "e-03" in line)
    assert "0.6625" in small and "1.040e-02" in small
    assert "0.5000" in large and "0.000e+00" in large and "3.000e-17" not in large


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((4, 1), 0.1, 1), "group size 1: A needs at least 2 responses"),
        (((4,), 2.0, 1), "step = 2.0: eta K is > 0, and below 2, .* give say 0.1"),
        (((4,), 0.1, 0), "inner_steps = 0: K is at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, text):
    check_sizes((4,), 0.1, 1)
    with pytest.raises(ValueError, match=text):
        check_sizes(*arguments)
