"""What floors on a grid of eta K and G say: slopes, coefficients, regressions, stationary tails."""

import numpy as np
import pandas as pd
from jaxtyping import Float64
from rich.console import Console
from rich.table import Column, Table

from ticgrpo_theory.floors.grids import SERIES
from ticgrpo_theory.plots.style import select
from ticgrpo_theory.stats.linear_fit import Fit, log_slope, weighted_fit

Values = Float64[np.ndarray, " n"]

SEPARATE = ("eta K", "1 / G", "1")
"""The terms of the printed bounds, and a constant."""

MODELS = {
    "four terms": ("eta K / G", *SEPARATE),
    "exact product": ("first order", *SEPARATE, "eta K first order", "(eta K / G)^2"),
}
"""Terms of the regressions. `first order` is the floor for eta K -> 0, eta K / G times a coefficient that is
known exactly and depends a little on G: what the first model leaves out is then no longer booked under the
separate terms. The last two are the next order in eta K."""


def terms(floors: pd.DataFrame) -> dict[str, Values]:
    """Every term of the models at every floor, by name."""
    G, h = floors.responses.to_numpy(float), floors.eta_K.to_numpy(float)
    exact = floors.first_order.to_numpy(float)
    return {
        "eta K / G": h / G,
        "first order": exact,
        "eta K": h,
        "1 / G": 1 / G,
        "1": np.ones_like(h),
        "eta K first order": h * exact,
        "(eta K / G)^2": (h / G) ** 2,
    }


def regressions(floors: pd.DataFrame) -> dict[str, Fit]:
    """The floors of one series on the terms of each model.

    A model is left out where the grid is too small for it: two values of G and of eta K, three of eta K for
    the second, and more floors than terms.
    """
    y, error, every = floors.floor.to_numpy(), floors.standard_error.to_numpy(), terms(floors)
    sizes, steps = floors.responses.nunique(), floors.eta_K.nunique()
    return {
        model: weighted_fit({name: every[name] for name in names}, y, error)
        for least, (model, names) in enumerate(MODELS.items(), start=2)
        if sizes >= 2 and steps >= least and len(y) > len(names)
    }


def slope(floors: pd.DataFrame, along: str) -> Fit | None:
    """Log-log slope of one line of floors along column `along`; None for fewer than three."""
    if len(floors) < 3:
        return None
    return log_slope(floors[along].to_numpy(float), floors.floor.to_numpy(), floors.standard_error.to_numpy())


def common_slope(floors: pd.DataFrame, along: str, across: str) -> Fit | None:
    """One slope for the lines of all values of column `across`, each with a level of its own."""
    values = sorted(set(floors[across]))
    if len(floors) <= len(values) + 1:
        return None
    levels = {f"level {value}": (floors[across] == value).to_numpy(float) for value in values}
    x, y, error = (floors[name].to_numpy(float) for name in (along, "floor", "standard_error"))
    return weighted_fit({"slope": np.log(x), **levels}, np.log(y), error / y)


def shares(made: pd.DataFrame, eta_K: float, G: int) -> pd.DataFrame:
    """Of each term and series: the part of the floor at (eta K, G) that it makes up, and its interval."""
    found = []
    for name in series_in(made):
        floors = select(made, world="xor", series=name)
        here = terms(select(floors, eta_K=eta_K, responses=G))
        for model, fit in regressions(floors).items() if len(here["1"]) else ():
            at = {term: float(x[0]) for term, x in here.items()}
            whole = sum(fit.coefficient[term] * at[term] for term in fit.coefficient)
            for term, value in fit.coefficient.items():
                part = {"share": value * at[term] / whole, "half": fit.half[term] * at[term] / whole}
                found.append({"series": name, "model": model, "term": term, **part})
    return pd.DataFrame(found, columns=["series", "model", "term", "share", "half"])


def series_in(made: pd.DataFrame) -> list[str]:
    return [name for name in SERIES if name in set(made.series)]


def lines(made: pd.DataFrame) -> list[tuple[str, str]]:
    """(world, series) of every line of a table, those of "xor" first."""
    worlds = [world for world in ("xor", "tree") if world in set(made.world)]
    return [(world, name) for world in worlds for name in series_in(select(made, world=world))]


def slope_table(made: pd.DataFrame, along: str, across: str, symbol: str) -> Table:
    """Slope along one column for each value of the other."""
    values = sorted(set(made[across]))
    shown = {"eta_K": "eta K", "responses": "G"}[along]
    heads = [f"{symbol} = {value:g}" for value in values]
    table = Table("world", Column("series", no_wrap=True), *heads, "together")
    table.title = f"slope of log floor on log {shown}, with 95 % intervals"
    for world, name in lines(made):
        line = select(made, world=world, series=name)
        fits = [slope(select(line, **{across: value}), along) for value in values]
        fits.append(common_slope(line, along, across))
        cells = ["-" if f is None else f"{f.coefficient['slope']:+.3f} ± {f.half['slope']:.3f}" for f in fits]
        table.add_row(world, name, *cells)
    return table


def coefficient_table(made: pd.DataFrame) -> Table:
    """floor G / (eta K) of every floor beside its exact limit for eta K -> 0."""
    steps = sorted(set(made.eta_K))
    heads = [f"eta K = {h:g}" for h in steps]
    table = Table(Column("series", no_wrap=True), "G", "exact, eta K -> 0", *heads)
    table.title = "floor G / (eta K) on xor, with 95 % intervals"
    for name in series_in(made):
        floors = select(made, world="xor", series=name).set_index("eta_K").sort_index()
        for G in sorted(set(floors.responses)):
            line = floors[floors.responses == G]
            unit = G / line.index.to_numpy()
            exact = (line.first_order * unit).iloc[0]
            cells = [f"{y:.4f} ± {e:.4f}" for y, e in zip(line.floor * unit, line.half * unit, strict=True)]
            table.add_row(name, str(G), f"{exact:.5f}", *cells)
    return table


def regression_tables(made: pd.DataFrame) -> list[Table]:
    """Coefficients with 95 % intervals, a table for each model, its terms down and the series across."""
    fits = {name: regressions(select(made, world="xor", series=name)) for name in series_in(made)}
    tables = []
    for model, names in MODELS.items():
        fitted = {name: found[model] for name, found in fits.items() if model in found}
        table = Table(Column("term", no_wrap=True), *fitted, title=f"regression of the floor on xor: {model}")
        for term in names:
            table.add_row(term, *(fit.shown(term) for fit in fitted.values()))
        table.add_row("chi^2 / freedom", *(f"{f.chi_square:.1f} / {f.freedom}" for f in fitted.values()))
        tables += [table] if fitted else []
    return tables


def halves(made: pd.DataFrame, world: str) -> tuple[float, float]:
    """Ratio of the two halves of a tail, averaged over cells; largest difference in standard errors."""
    floors = select(made, world=world)
    z = (floors.second_half - floors.first_half) / floors.halves_error
    return float((floors.second_half / floors.first_half).mean()), float(z.abs().max())


def print_burn_in(made: pd.DataFrame, console: Console) -> None:
    """Whether tails are stationary, and how long a run without a burn-in would have to be."""
    for world in sorted(set(made.world), reverse=True):
        ratio, worst = halves(made, world)
        console.print(
            f"{world}: second half / first half of the tails {ratio:.3f} on average, "
            f"at most {worst:.1f} standard errors apart ({len(select(made, world=world))} tails)"
        )
    floors = select(made, world="xor")
    longest = floors.loc[floors.without_burn_in.idxmax()]
    burn_in, tail = (int(floors[name].to_numpy().max()) for name in ("burn_in", "tail"))
    console.print(
        f"xor: burn-in and tail of at most {burn_in:,} and {tail:,} outer steps "
        f"(fewer at larger eta K); averaged from p = 0.7 on, the transient alone hides the floor until outer "
        f"step {longest.without_burn_in:,.0f} at eta K = {longest.eta_K:g}, G = {longest.responses}",
        style="dim",
    )
