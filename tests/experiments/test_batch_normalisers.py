"""experiments/batch_normalisers.py: its claims, on its own rows, each beside a case that must fail."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import batch_normalisers as script
from experiments.batch_normalisers import LINES, WORLDS, Config, cell, lines, made, rows
from tests.properties.tolerances import EXACT, MOVES, PRINTED, VISIBLE
from tests.thinned import more, only
from ticgrpo_theory.estimators.advantages import centred
from ticgrpo_theory.estimators.scales import micro_batch_token_mean
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.mdp import TokenMDP

SMALL = Config(worlds=("length-trap",), prompts=(2,), group_sizes=(2,), micro_batches=(2,), drifts=(0.0,))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """What the lower panels show."""
    cfg = Config()
    keys = [("length-trap", 2, 4, 0.0), *(("easy-hard", P, G, 0.0) for P in (2, 8) for G in (4, 16))]
    return pd.DataFrame([row for key in keys for row in cell(cfg, *key)])


def left(table: pd.DataFrame, world: str, line: str, P: int = 2, G: int = 4) -> float:
    return float(table.set_index(["world", "line", "prompts", "group_size"]).scale[world, line, P, G])


def test_the_columns_are_those_that_the_docstring_names(table):
    about = ["world", "prompts", "group_size", "drift", "line", "micro_batch"]
    assert list(table) == [*about, "cosine", "scale", "residual", "bias"]
    assert set(table.line) == set(lines(Config())) and len(table) == 5 * (len(LINES) + 8)


def test_token_means_of_small_micro_batches_turn_the_update_round(table):
    for order in script.ORDERS:
        of = [left(table, "length-trap", f"micro-batches {order}, m = {m}") for m in (1, 2, 4, 8)]
        assert of[0] < of[1] < -0.5 and of[2] < 0 < of[3] and of == sorted(of)
    # Partners: the mean over all tokens of the batch, and no token mean at all, keep the sign.
    assert left(table, "length-trap", "batch token mean") > 0.1
    assert left(table, "length-trap", "1/B") == pytest.approx(1 - 1 / 4)


def test_one_row_a_micro_batch_is_the_mean_over_the_tokens_of_the_response(table):
    for order in script.ORDERS:
        one = left(table, "length-trap", f"micro-batches {order}, m = 1")
        assert one == pytest.approx(left(table, "length-trap", "response token mean"), abs=1e-12)
    # As many rows as a group, in order: that of the group.
    whole = left(table, "length-trap", "micro-batches in order, m = 4")
    assert whole == pytest.approx(left(table, "length-trap", "group token mean"), abs=1e-12)


@pytest.mark.parametrize("line", ["TRL default", "verl reinforce++", "TRL scale_rewards=batch", "group std"])
def test_deviations_turn_the_update_round_in_large_groups_of_few_prompts(table, line):
    assert left(table, "easy-hard", line, G=4) > 0.1 > -0.1 > left(table, "easy-hard", line, G=16)
    # Partner: without a deviation nothing turns.
    assert left(table, "easy-hard", "batch token mean", G=16) > left(table, "easy-hard", "batch token mean")


def test_more_prompts_mend_the_deviation_of_the_batch_and_not_that_of_the_group(table):
    for line in ("verl reinforce++", "TRL scale_rewards=batch"):
        assert left(table, "easy-hard", line, P=8, G=16) > 0.2
    for line in ("TRL default", "group std"):
        few, many = (left(table, "easy-hard", line, P=P, G=16) for P in (2, 8))
        assert many == pytest.approx(few, abs=1e-9) and many < -0.1


def test_whitening_over_tokens_is_the_furthest_from_the_gradient_and_comes_nearer_with_more_prompts():
    cfg = dataclasses.replace(SMALL, worlds=("lengths",), prompts=(2, 8))
    made = pd.DataFrame(rows(cfg)).set_index(["line", "prompts"]).cosine
    assert made.xs(2, level="prompts").idxmin() == "verl reinforce++"
    assert 1 - made["verl reinforce++", 8] < (1 - made["verl reinforce++", 2]) / 2
    # Partner: what reads one group alone stays where it is.
    assert made["group token mean", 8] == pytest.approx(made["group token mean", 2], abs=1e-12)
    assert (
        made["1/B", 2] == pytest.approx(1.0, abs=1e-12)
        and made["1/B", 2] - made["response token mean", 2] > VISIBLE
    )


# Two prompts of the responses 00, 01 and 1, whose rewards are 1, 0, 0 and 1, 1, 0; two responses each.
PROMPTS = [TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=r) for r in ([1, 0, 0], [1, 1, 0])]
PAIR = TokenMDP.mixture(PROMPTS, [0.5, 0.5], share_rows=True)
OLD = torch.tensor([[0.2, -0.1], [0.3, 0.0]], dtype=torch.float64)
THETA = torch.tensor([[0.7, -0.4], [-0.1, 0.3]], dtype=torch.float64)
PRINTED_MEANS = {
    "group token mean": (0.0491671841, 0.0196992374),
    "batch token mean": (0.0486302408, 0.0208827684),
    "batch-standardised": (0.2382537195, 0.1113076029),
    "whitened": (0.2543396303, 0.1036731111),
    "whitened, n - 1": (0.2322962479, 0.0955928797),
    "batch rms": (0.1805405689, 0.0836168250),
    "batch std": (0.1598409688, 0.0744641020),
    "group std": (0.1475015524, 0.0690079937),
}


@pytest.mark.parametrize("line", PRINTED_MEANS)
def test_updates_of_each_prompt_once_to_the_printed_digits(line):
    found = expected_gradient(PAIR, THETA, OLD, LINES[line], 2, prompts="each")
    np.testing.assert_allclose(found[:, 0], PRINTED_MEANS[line], **PRINTED(10))


def test_micro_batches_across_groups_to_the_printed_digits():
    across = made(centred(), micro_batch_token_mean(2, (0, 2, 1, 3)))
    found = expected_gradient(PAIR, THETA, OLD, across, 2, prompts="each")
    np.testing.assert_allclose(found[:, 0], (0.0521720158, 0.0196992374), **PRINTED(10))


@pytest.mark.parametrize("line", only(["verl reinforce++"], lines(SMALL)))
def test_a_row_is_the_sum_over_every_update(line):
    (row,) = [row for row in rows(SMALL) if row["line"] == line]
    build, start = WORLDS["length-trap"]
    mdp = build()
    old = start(mdp)
    estimator, _ = lines(SMALL)[line]
    mean = expected_gradient(mdp, old, old, estimator, 2, "groups", prompts=2, limit=10**6)
    gradient = policy_gradient(mdp, old)
    bias = float((mean - gradient).norm() / gradient.norm())
    torch.testing.assert_close(row["bias"], bias, **EXACT)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"worlds": ("length",)}, r"unknown entry 'length' of worlds; the nearest is 'lengths'"),
        ({"prompts": (0,)}, r"P = 0: an update has at least one group"),
        ({"group_sizes": (1,)}, r"G = 1: a group has a mean of its own"),
        ({"drifts": (math.nan,)}, r"drift = nan: a distance is finite and at least 0"),
        ({"micro_batches": (3,)}, r"an update of B = 4 rows cannot be cut into micro-batches of 3"),
        ({"prompts": ()}, r"prompts = \(\): give at least one"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(SMALL, **change))


OPTIONS = [
    {"worlds": ("easy-hard",)},
    {"prompts": (4,)},
    {"group_sizes": (4,)},
    {"drifts": (0.3,)},
    {"micro_batches": (4,)},
]


@pytest.mark.parametrize("change", OPTIONS)
def test_every_option_moves_the_numbers(change):
    before, after = (rows(cfg)[-1]["scale"] for cfg in (SMALL, dataclasses.replace(SMALL, **change)))
    assert abs(before - after) > MOVES


@more
def test_the_script_writes_rows_and_a_figure(tmp_path):
    cfg = dataclasses.replace(SMALL, worlds=tuple(WORLDS), group_sizes=(2, 4))
    script.main(dataclasses.replace(cfg, results=tmp_path / "r", figures=tmp_path / "f"))
    assert (tmp_path / "r" / "batch_normalisers.parquet").stat().st_size > 0
    assert (tmp_path / "f" / "batch_normalisers.png").stat().st_size > 10_000
