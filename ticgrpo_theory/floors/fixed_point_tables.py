"""Floors at fixed points that may be no optimum: exact and simulated, and how they change with G."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from ticgrpo_theory.floors.simulated_floors import check_groups, check_step
from ticgrpo_theory.plots.style import select
from ticgrpo_theory.stats.rounding import ROUNDING


def check_sizes(group_sizes: Sequence[int], step: float, inner_steps: int) -> None:
    """Raise ValueError where groups, steps or K cannot be run: value, limit, way out."""
    check_groups(group_sizes)
    check_step("step", step, "eta K")
    if inner_steps < 1:
        raise ValueError(f"inner_steps = {inner_steps}: K is at least 1")


def change(floors: pd.DataFrame) -> tuple[float, float]:
    """The simulated floor at the largest G over that at the smallest, and half its 95 % interval."""
    ordered = floors.sort_values("group_size")
    floor, half = ordered.floor.to_numpy(), ordered.half.to_numpy()
    ratio = float(floor[-1] / floor[0])
    return ratio, ratio * math.hypot(half[-1] / floor[-1], half[0] / floor[0])


def fixed_point_table(made: pd.DataFrame, names: Sequence[str], title: str) -> Table:
    """A row for each line and G."""
    heads = ("", "G", "p", "root", "+ noise", "floor", "95 %")
    table = Table(*(Column(head, no_wrap=True) for head in heads))
    table.title = f"||grad J||^2 at the fixed point: {title}\nexact, exact to first order, simulated"
    for name in names:
        floors = select(made, line=name).sort_values("group_size")
        for i, row in enumerate(floors.to_dict("records")):
            table.add_row(
                name if i == 0 else "",
                str(row["group_size"]),
                f"{row['fixed_point']:.4f}",
                f"{0.0 if row['root'] < ROUNDING else row['root']:.3e}",
                f"{row['first_order']:.3e}",
                f"{row['floor']:.3e}",
                f"{row['half']:.1e}",
                end_section=i == len(floors) - 1,
            )
    return table


def print_changes(made: pd.DataFrame, names: Sequence[str], console: Console) -> None:
    """How much of the floor of the smallest G is left at the largest."""
    few, many = made.group_size.min(), made.group_size.max()
    for name in names:
        ratio, half = change(select(made, line=name))
        console.print(f"{name}: floor at G = {many} / floor at G = {few} = {ratio:.3g} ± {half:.1g}")


def print_tails(made: pd.DataFrame, console: Console) -> None:
    """Whether tails are stationary."""
    z = ((made.second_half - made.first_half) / made.halves_error).abs()
    console.print(
        f"halves of the tails at most {z.max():.1f} standard errors apart, "
        f"{np.sqrt(np.square(z).mean()):.1f} in root mean square ({len(made)} tails; burn-in and tail of at "
        f"most {made.burn_in.max():,} and {made['tail'].max():,} outer steps)",
        style="dim",
    )
