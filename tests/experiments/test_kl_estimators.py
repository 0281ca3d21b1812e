"""experiments/kl_estimators.py: the table that it prints, its rows, and its figure."""

import dataclasses
import io

import pandas as pd
import pytest
from rich.console import Console

from experiments import kl_estimators
from experiments.kl_estimators import PENALTIES, TARGETS, Config, draw, met, rows, show
from tests.properties.tolerances import EXACT, VISIBLE
from tests.thinned import more
from ticgrpo_theory.exact.penalties.penalised import penalty_gradient
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

CFG = Config(worlds=("bandit", "xor", "few-values", "long-answers"), drifts=(0.0, 0.3))
TINY = Config(
    worlds=("bandit",), drifts=(0.0, 0.25), penalties=("loss k1", "reward k1"), targets=("zero", "KL")
)

KL_ON_POLICY = {
    "loss k2 of response",
    "loss prefix k3",
    "loss prefix exact",
    "loss trajectory k1",
    "loss trajectory k3",
    "loss trajectory exact",
    "reward k1",
    "reward k1, token ratio",
    "reward k1, trajectory ratio",
}
KL_OFF_POLICY = {name for name in KL_ON_POLICY if "prefix" in name or name.startswith("loss trajectory")}
FROZEN = {"loss exact", "loss token k1", "loss token k3", "loss held token k2"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(CFG))


def meeting(part: pd.DataFrame, target: str) -> set[str]:
    """The penalties that meet the target in all of these rows."""
    return {name for name, of in part.groupby("estimator") if target in met(of).split(", ")}


def test_there_is_one_row_for_each_place_penalty_and_target(table):
    assert len(table) == 4 * 2 * 2 * len(PENALTIES) * len(TARGETS)
    assert not table.duplicated(["world", "scale", "drift", "estimator", "target"]).any()
    assert set(table[table.unequal_lengths].world) == {"long-answers"}


def test_beyond_one_token_these_penalties_and_no_others_are_the_gradient_of_the_kl_of_responses(table):
    part = table[(table.scale == "sequence_sum") & (table["T"] > 1)]
    assert meeting(part[part.drift == 0], "KL") == KL_ON_POLICY
    assert meeting(part[part.drift > 0], "KL") == KL_OFF_POLICY
    assert meeting(part[part.drift > 0], "KL at old") == FROZEN
    assert meeting(part[part.drift > 0], "KL at theta") == {"loss held trajectory k2"}


def test_for_one_token_most_of_them_coincide_on_policy(table):
    part = table[(table.world == "bandit") & (table.scale == "sequence_sum") & (table.drift == 0)]
    others = {"loss k1", "loss k3", "loss held token k3", "loss token k2", "loss trajectory k2"}
    assert meeting(part, "KL") == set(PENALTIES) - others - {"reward k2", "reward k3"}


def test_with_unequal_lengths_one_over_length_leaves_whole_rows_only(table):
    part = table[table.unequal_lengths & (table.scale == "sequence_mean") & (table.drift > 0)]
    assert meeting(part, "KL") == {"loss trajectory exact"}
    assert meeting(part, "KL at old") == {"loss exact"}


def test_what_is_missed_is_missed_by_far(table):
    part = table[(table.scale == "sequence_sum") & (table.target == "KL") & (table.drift > 0)]
    gap = part[part.world == "few-values"].set_index("estimator").distance
    assert gap[sorted(KL_OFF_POLICY)].max() < EXACT["atol"]
    assert gap[sorted(set(PENALTIES) - KL_OFF_POLICY)].min() > VISIBLE
    # One row for every state: each costs the same, and frozen states are no restriction.
    shared = part[part.world == "xor"].set_index("estimator").distance
    assert shared[sorted(FROZEN)].max() < EXACT["atol"]


def test_distances_are_those_of_the_contribution():
    mdp, name = WORLDS["xor"].build(), "reward k1"
    old = WORLDS["xor"].theta_old(mdp)
    theta = old + 0.25 * kl_estimators.direction(mdp)
    cfg = dataclasses.replace(TINY, worlds=("xor",), scales=("sequence_sum",))
    (row,) = (r for r in rows(cfg) if (r["estimator"], r["target"], r["drift"]) == (name, "zero", 0.25))
    found = penalty_gradient(mdp, theta, old, kl_estimators.reference(mdp), PENALTIES[name][0])
    assert row["distance"] == pytest.approx(float(found.norm()), abs=EXACT["atol"])
    assert float((theta - old).norm()) == pytest.approx(0.25, abs=EXACT["atol"])


@pytest.mark.parametrize(
    "change",
    [
        {"worlds": ("xor",)},
        {"penalties": ("loss k3",)},
        {"targets": ("H",)},
        {"drifts": (0.5,)},
        {"scales": None},
    ],
)
def test_every_option_moves_the_numbers(change):
    if change == {"scales": None}:
        # At T = 1 the scales are one; elsewhere they are not.
        start = dataclasses.replace(TINY, worlds=("xor",), scales=("sequence_sum",))
        change = {"scales": ("sequence_mean",)}
    else:
        start = dataclasses.replace(TINY, scales=("sequence_sum",))
    before, after = (
        pd.DataFrame(rows(cfg)).distance.max() for cfg in (start, dataclasses.replace(start, **change))
    )
    assert abs(before - after) > 1e-3


def test_the_table_in_the_terminal_names_what_is_met():
    out = io.StringIO()
    show(TINY, pd.DataFrame(rows(TINY)), Console(file=out, width=120))
    first, second = (line for line in out.getvalue().splitlines() if "│ zero" in line or "│ KL" in line)
    assert ("loss k1" in first, "reward k1" in second) == (True, True)
    assert "grad E_theta[KL(s)], the KL of responses" in out.getvalue()


def test_the_figure_draws_relative_distances_and_on_policy_apart():
    made = pd.DataFrame(rows(dataclasses.replace(TINY, scales=("sequence_sum",))))
    figure = draw(made)
    (ax, *_) = figure.axes
    drawn = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    row = made[(made.estimator == "reward k1") & (made.target == "KL") & (made.drift > 0)].iloc[0]
    assert list(drawn) == ["$k_1$ in the loss", "$k_1$ in the reward"]
    assert drawn["$k_1$ in the reward"].get_ydata()[0] == pytest.approx(row.distance / row.target_norm)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.25"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worlds": ("bandits",)}, "unknown entry 'bandits' of worlds; the nearest is 'bandit'"),
        ({"penalties": ("loss k5",)}, "unknown entry 'loss k5' of penalties; the nearest is 'loss k"),
        ({"drifts": (0.1, 0.1)}, r"drifts = \(0.1, 0.1\): give at least one, and none twice"),
        ({"drifts": (-0.1,)}, "drift = -0.1: a distance is finite and at least 0"),
        ({"targets": ()}, r"targets = \(\): give at least one"),
    ],
)
def test_bad_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(TINY, **change))
