"""experiments/filters.py: its claims, on its own rows, each beside a case that must fail."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import filters as script
from experiments.filters import FILTERS, LINES, Config, rows, world
from tests.experiments.test_batch_normalisers import OLD, PAIR, THETA
from tests.properties.tolerances import EXACT, MOVES, PRINTED, VISIBLE
from tests.thinned import more
from ticgrpo_theory.estimators.filters import drop_equal, overlong
from ticgrpo_theory.exact import expected_gradient

CFG = Config(shifts=(0.0, 1.0, 2.0), group_sizes=(2, 8), lines=("own", "tokens", "raw"))
SMALL = Config(shifts=(1.0,), group_sizes=(2,), lines=("own",), prompts=("drawn",))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(CFG))


def turned(table: pd.DataFrame, line: str, name: str, prompts: str = "drawn") -> pd.Series:
    """1 - cosine to no filter, by shift and G."""
    of = table[(table.line == line) & (table["filter"] == name) & (table.prompts == prompts)]
    return 1 - of.set_index(["shift", "group_size"]).beside


def test_the_columns_are_those_that_the_docstring_names(table):
    about = ["shift", "group_size", "line", "prompts", "filter"]
    assert list(table) == [*about, "hard", "kept", "cosine", "scale", "beside"]
    # Seven filters of prompts that are drawn, six where each is there once: no new ones to draw.
    assert len(table) == 3 * 2 * 3 * (len(FILTERS) + len(FILTERS) - 1)


@pytest.mark.parametrize("name", ["refill", "divide_by_all", "divide_by_kept"])
def test_with_a_normaliser_of_its_own_dropping_groups_keeps_the_direction(table, name):
    assert turned(table, "own", name).abs().max() <= EXACT["atol"]
    # Partner: with A = r a group of equal rewards has a gradient, and it is lost.
    assert turned(table, "raw", name).max() > MOVES


def test_refilling_divides_by_the_share_of_groups_that_are_kept(table):
    of = table[(table.line == "own") & (table.prompts == "drawn")].set_index(
        ["filter", "shift", "group_size"]
    )
    refilled = of.scale["refill"] * of.kept["refill"]
    np.testing.assert_allclose(refilled, of.scale["none"], **EXACT)
    assert of.kept["refill"].max() < 1


def test_under_a_token_mean_of_the_batch_refilling_turns_it_a_little(table):
    refilled, divided = (turned(table, "tokens", name) for name in ("refill", "divide_by_kept"))
    assert refilled.min() > 1e-9 and refilled.max() < MOVES
    assert (divided > 5 * refilled).all()
    # Divided by the tokens of all, what is dropped was 0 before.
    assert turned(table, "tokens", "divide_by_all").abs().max() <= EXACT["atol"]


@pytest.mark.parametrize("line", ["own", "tokens"])
def test_the_same_prompt_again_turns_it_more_the_harder_the_prompt(table, line):
    of = turned(table, line, "same_prompt").unstack()
    assert (of.diff().dropna() > 0).all(axis=None) and of.iloc[-1].min() > VISIBLE


def test_dividing_by_what_is_kept_turns_updates_of_each_prompt_once_and_not_of_prompts_that_are_drawn(table):
    assert turned(table, "own", "divide_by_kept", "each").min() > 1e-5
    assert turned(table, "own", "divide_by_all", "each").abs().max() <= EXACT["atol"]


@pytest.mark.parametrize("name", ["overlong mask", "overlong penalty"])
@pytest.mark.parametrize("line", ["own", "tokens", "raw"])
def test_leaving_out_or_punishing_what_was_cut_turns_it(table, line, name):
    assert turned(table, line, name).min() > 1e-3


def test_a_term_without_advantage_is_turned_by_refilling():
    penalised = pd.DataFrame(rows(dataclasses.replace(SMALL, lines=("penalty",))))
    assert turned(penalised, "penalty", "refill").min() > 1e-3
    # At the reference policy the penalty has no gradient, and nothing is lost.
    there = pd.DataFrame(rows(dataclasses.replace(SMALL, shifts=(0.0,), lines=("penalty",))))
    assert turned(there, "penalty", "refill").abs().max() <= EXACT["atol"]


@pytest.mark.parametrize("name", list(FILTERS))
def test_the_share_kept_is_a_sum_over_responses(table, name):
    """Probabilities of groups and responses by a loop over the responses of the world."""
    mdp, G = world(), 8
    log_pi = torch.log_softmax(script.policy(mdp, 1.0), -1)
    kept = []
    rights = (lambda y: 0 in y, lambda y: y.count(1) >= 2)
    for right, (_, prompt) in zip(rights, mdp.prompts, strict=True):
        place = {prefix: row for row, prefix in enumerate(prompt.prefixes)}
        prob = np.array(
            [math.exp(sum(float(log_pi[place[y[:t]], a]) for t, a in enumerate(y))) for y in prompt.responses]
        )
        r = np.array([float(right(y)) for y in prompt.responses])
        uncut = np.array([y[-1] == 2 for y in prompt.responses])
        by_filter = {
            drop_equal: 1 - sum((prob @ (r == value)) ** G for value in set(r)),
            overlong: prob @ uncut,
        }
        kept.append(1.0 if name in ("none", "overlong penalty") else by_filter[type(FILTERS[name])])
    (found,) = set(table[(table["filter"] == name) & (table["shift"] == 1.0) & (table.group_size == G)].kept)
    assert found == pytest.approx(np.mean(kept), abs=EXACT["atol"])


@pytest.mark.parametrize(
    ("name", "prompts", "printed"),
    [
        ("refill", 2, (0.3168308893, 0.1482280266)),
        ("same_prompt", "each", (0.3133223450, 0.1560598597)),
        ("divide_by_kept", "each", (0.2272647941, 0.1042768322)),
    ],
)
def test_two_prompts_to_the_printed_digits(name, prompts, printed):
    filtered = dataclasses.replace(LINES["own"], filter=FILTERS[name])
    found = expected_gradient(PAIR, THETA, OLD, filtered, 2, prompts=prompts)
    np.testing.assert_allclose(found[:, 0], printed, **PRINTED(10))


@pytest.mark.parametrize("name", ["refill", "overlong mask"])
def test_a_row_is_the_sum_over_every_update(name):
    (row,) = [row for row in rows(SMALL) if row["filter"] == name]
    mdp = world()
    theta = script.policy(mdp, 1.0)
    filtered = dataclasses.replace(LINES["own"], filter=FILTERS[name])
    mean = expected_gradient(mdp, theta, theta, filtered, 2, "groups", prompts=2)
    plain = expected_gradient(mdp, theta, theta, LINES["own"], 2)
    cosine = float((mean * plain).sum() / (mean.norm() * plain.norm()))
    assert row["beside"] == pytest.approx(cosine, abs=EXACT["atol"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lines": ("won",)}, r"unknown entry 'won' of lines; the nearest is 'own'"),
        ({"prompts": ("eacj",)}, r"unknown entry 'eacj' of prompts; the nearest is 'each'"),
        ({"shifts": (math.inf,)}, r"shift = inf: give a finite number of logits"),
        ({"group_sizes": (1,)}, r"G = 1: one reward equals itself"),
        ({"shifts": ()}, r"shifts = \(\): give at least one"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(SMALL, **change))


@pytest.mark.parametrize(
    "change", [{"shifts": (2.0,)}, {"group_sizes": (3,)}, {"lines": ("raw",)}, {"prompts": ("each",)}]
)
def test_every_option_moves_the_numbers(change):
    numbers = []
    for cfg in (SMALL, dataclasses.replace(SMALL, **change)):
        (row,) = [row for row in rows(cfg) if row["filter"] == "divide_by_kept"]
        numbers.append(row["scale"])
    assert abs(numbers[0] - numbers[1]) > MOVES


@more
def test_the_script_writes_rows_and_a_figure(tmp_path):
    cfg = dataclasses.replace(CFG, shifts=(0.0, 1.0), results=tmp_path / "r", figures=tmp_path / "f")
    script.main(cfg)
    assert (tmp_path / "r" / "filters.parquet").stat().st_size > 0
    assert (tmp_path / "f" / "filters.png").stat().st_size > 10_000
