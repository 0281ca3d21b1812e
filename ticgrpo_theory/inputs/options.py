"""Options of sums over groups, checked where they are given."""

from typing import Any

from ticgrpo_theory.inputs.numbers import as_number, integer, shown


def check_options(symmetric: Any, limit: Any, tolerance: Any, seed: Any) -> None:
    """Raise ValueError for words in the place of switches and numbers; sizes are the methods' own matter."""
    if symmetric is not None and not isinstance(symmetric, bool):
        raise ValueError(
            f"symmetric = {shown(symmetric)}: give True (the order of a group does not matter), False (it "
            f"may), or None (which checks it)"
        )
    if tolerance is not None and as_number(tolerance) is None:
        raise ValueError(f"tolerance = {shown(tolerance)}: the relative error to reach is a number > 0")
    if limit is not None:
        integer("limit", limit, 1, "groups of a black box that may be listed")
    integer("seed", seed, 0, "the name of the random numbers")
