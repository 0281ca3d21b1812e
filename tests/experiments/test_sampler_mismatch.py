"""experiments/sampler_mismatch.py: its claims, on its own rows, each beside a case that must fail."""

import dataclasses
import importlib
import math

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import sampler_mismatch as script
from experiments.sampler_mismatch import CORRECTIONS, DIRECT, Config, made, rows, small_world
from tests.properties.tolerances import EXACT, MOVES, PRINTED, VISIBLE
from tests.thinned import more, only
from ticgrpo_theory.estimators.advantages import known_moments, leave_one_out
from ticgrpo_theory.estimators.corrections import masked, truncated
from ticgrpo_theory.exact import expected_gradient, expected_return, gradient_moments, policy_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds.catalogue import graded
from ticgrpo_theory.worlds.samplers import noise

SMALL = Config(
    worlds=("long-answers",),
    horizons=(4,),
    samplers=("noise",),
    mismatches=(0.3, 1.0),
    drifts=(0.0, 0.3),
    rewards=("share",),
    lengths=(64, 1024),
    gaps=(0.1,),
)
UNBIASED = ("sequence", "theta/mu, trajectory")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(SMALL))


@pytest.fixture(scope="module")
def one_row() -> pd.DataFrame:
    """All lengths and gaps of both rewards, as the figure has them."""
    cfg = Config()
    keys = [key for key in script.keys(cfg) if key[0] in script.ONE_ROW]
    return pd.DataFrame([row for key in keys for row in script.cell(cfg, *key)])


def test_the_columns_are_those_that_the_docstring_names(table):
    about = ["world", "sampler", "mismatch", "T", "drift", "correction"]
    assert list(table) == [*about, "cosine", "scale", "residual", "bias", "variance", "mass"]
    small = table[table.world == "long-answers"]
    assert set(small.correction) == {*CORRECTIONS, *DIRECT} and len(small) == 4 * len(set(small.correction))
    assert {name: script.__doc__.count(name) > 0 for name in list(table)[6:]} == dict.fromkeys(
        list(table)[6:], True
    )


def test_only_the_weight_of_the_whole_response_is_unbiased(table):
    whole = table[table.correction.isin(UNBIASED)]
    assert whole.bias.max() <= 1e-10 and whole.scale.min() > 1 - 1e-10
    small = table[(table.world == "long-answers") & (table.mismatch == 1.0)]
    # Partner: every other one misses it, those with a bound because it acts at this mismatch.
    assert small[~small.correction.isin(UNBIASED)].bias.min() > VISIBLE


def test_the_unbiased_weight_pays_with_variance(table, one_row):
    of = table[(table.world == "long-answers") & (table.mismatch == 1.0)].set_index(["drift", "correction"])
    assert (of.variance[0.0, "sequence"] / of.variance[0.0, "none"]) > 10
    lines = one_row[(one_row.world == "share") & (one_row.mismatch == 0.1)].set_index(["correction", "T"])
    growth = [lines.variance["sequence", T] for T in Config().lengths]
    assert growth == sorted(growth) and growth[-1] > 1e6 * growth[0]


def test_a_correction_of_single_tokens_can_point_further_from_the_gradient_than_none():
    cfg = dataclasses.replace(SMALL, horizons=(6,), mismatches=(0.03, 1.0), drifts=(0.0,), lengths=(2,))
    made = pd.DataFrame(rows(cfg)).query("world == 'long-answers'").set_index(["correction", "mismatch"])
    for x in cfg.mismatches:
        assert made.cosine["verl token_is", x] < made.cosine["none", x] - 1e-6
        # Partner: the weight of the whole response does not.
        assert made.cosine["sequence", x] > made.cosine["none", x]


@more
def test_on_the_other_sampler_the_correction_of_tokens_is_the_nearer_one():
    cfg = dataclasses.replace(
        SMALL, horizons=(6,), samplers=("temperature",), mismatches=(0.3,), drifts=(0.0,), lengths=(2,)
    )
    made = pd.DataFrame(rows(cfg)).query("world == 'long-answers'").set_index(["correction", "mismatch"])
    assert made.cosine["verl token_is", 0.3] > made.cosine["none", 0.3] + MOVES


@pytest.mark.parametrize("name", ["sequence masked", "verl seq_is", "sequence truncated"])
def test_a_bound_on_whole_responses_turns_the_gradient_of_long_ones_round(one_row, name):
    left = (
        one_row[(one_row.world == "share") & (one_row.mismatch == 0.1)].set_index(["correction", "T"]).scale
    )
    assert left[name, 64] > 0.9
    assert left[name, 4096] < -0.2
    # Partner: to ignore the sampler, or to correct token by token, costs next to nothing here.
    assert abs(left["none", 4096] - 1) < VISIBLE and left["token", 4096] == pytest.approx(1.0, abs=1e-8)


def test_the_other_reward_is_lost_but_not_turned(one_row):
    left = one_row[(one_row.world == "half") & (one_row.mismatch == 0.1)].set_index(["correction", "T"]).scale
    assert 0 < left["sequence masked", 4096] < left["none", 4096] < VISIBLE


# Share of theta_old that is left where W > 3 is dropped, by gap and T.
KEPT = {
    0.05: (1.000000, 0.994549, 0.836879, 0.454043),
    0.1: (0.993913, 0.844821, 0.448053, 0.106449),
    0.2: (0.860822, 0.436456, 0.110050, 0.001220),
}
TRUNCATED = {256: 0.949372, 1024: 0.660847, 4096: 0.182636}


def test_the_mass_that_the_default_of_trl_leaves_to_the_printed_digits(one_row):
    mass = one_row[one_row.world == "share"].set_index(["correction", "mismatch", "T"]).mass.astype(float)
    for gap, printed in KEPT.items():
        found = [mass["sequence masked", gap, T] for T in (64, 256, 1024, 4096)]
        np.testing.assert_allclose(found, printed, **PRINTED(6))
    for T, printed in TRUNCATED.items():
        np.testing.assert_allclose(mass["sequence truncated", 0.1, T], printed, **PRINTED(6))
    assert one_row[one_row.correction.isin(["none", "token"])].mass.isna().all()


@pytest.mark.parametrize("reward", script.ONE_ROW)
def test_the_sum_over_counts_is_that_over_all_responses(reward):
    """The rows of six tokens, by the engine that lists responses, on a world of its own."""
    T, gap = 6, 0.7
    p = 1 / (1 + math.exp(-gap))
    r = [n / T if reward == "share" else float(n >= T * p) for n in range(T + 1)]
    transition = [[min(n + 1, T), n] for n in range(T + 1)]
    mdp = TokenMDP.automaton(transition, vocab_size=2, horizon=T, reward=r, rows=[0] * (T + 1))
    old, mu = torch.tensor([[gap / 2, -gap / 2]], dtype=torch.float64), torch.zeros(1, 2).double()
    A, gradient = known_moments(expected_return(mdp, mu), 1.0), policy_gradient(mdp, old)
    size = float(gradient.square().sum())
    for row in script.one_row(reward, gap, T):
        estimator = made(CORRECTIONS[row["correction"]], A)
        moments = gradient_moments(mdp, old, old, estimator, 1, theta_sampler=mu)
        assert row["scale"] == pytest.approx(float((moments.mean * gradient).sum()) / size, abs=1e-11)
        assert row["variance"] == pytest.approx(moments.variance / size, abs=1e-11)
        assert row["residual"] == pytest.approx(0.0, abs=1e-11)


def test_one_row_of_a_small_world_by_a_loop_over_its_responses():
    mdp = script.long_answers(4)
    old = graded(mdp)
    log_old, log_mu = torch.log_softmax(old, -1), torch.log_softmax(noise(1.0, 0)(old), -1)
    place = {prefix: row for row, prefix in enumerate(mdp.prefixes)}
    parts, baseline = [], 0.0
    for tokens in mdp.responses:
        steps = [(place[tokens[:t]], a) for t, a in enumerate(tokens)]
        logs = [sum(float(log[s, a]) for s, a in steps) for log in (log_mu, log_old)]
        g = torch.zeros_like(old)
        for s, a in steps:
            g[s] -= log_old[s].exp()
            g[s, a] += 1
        r = float(tokens.count(0) >= 2)
        baseline += math.exp(logs[0]) * r
        parts.append((math.exp(logs[0]), math.exp(logs[1] - logs[0]), r, g))
    mean = sum(p * (W if W <= 3 else 0.0) * (r - baseline) * g for p, W, r, g in parts)
    target = sum(p * W * r * g for p, W, r, g in parts)
    (row,) = [r for r in small_world(mdp, noise(1.0, 0), 0.0) if r["correction"] == "sequence masked"]
    assert row["bias"] == pytest.approx(float((mean - target).norm() / target.norm()), abs=EXACT["atol"])
    assert row["cosine"] < 1 - VISIBLE


# theta/theta_old, theta_old and mu of one prompt of three responses: 00, 01, 1, the first of them right.
PROMPT = TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=[1.0, 0.0, 0.0])
OLD, THETA, MU = (
    torch.tensor(t, dtype=torch.float64)
    for t in ([[0.2, -0.1], [0.3, 0.0]], [[0.7, -0.4], [-0.1, 0.3]], [[0.5, -0.3], [0.0, 0.2]])
)


@pytest.mark.parametrize(
    ("correction", "printed"),
    [
        (truncated("sequence"), (0.0751938448, 0.1802580525)),
        (None, (0.0371205365, 0.2038586492)),
    ],
)
def test_one_prompt_to_the_printed_digits(correction, printed):
    estimator = made(correction, known_moments(expected_return(PROMPT, MU), 1.0))
    found = expected_gradient(PROMPT, THETA, OLD, estimator, 1, theta_sampler=MU)
    np.testing.assert_allclose(found[:, 0], printed, **PRINTED(10))


@pytest.mark.parametrize("G", only([2], [2, 3]))
def test_a_known_baseline_is_what_leave_one_out_gives_in_expectation_at_any_group_size(G):
    for correction in (masked("sequence", None, 1.1), truncated("token", None, 1.1)):
        known = made(correction, known_moments(expected_return(PROMPT, MU), 1.0))
        group = dataclasses.replace(known, advantage=leave_one_out())
        means = [
            expected_gradient(PROMPT, THETA, OLD, estimator, size, theta_sampler=MU)
            for estimator, size in ((known, 1), (group, G))
        ]
        torch.testing.assert_close(*means, **EXACT)


@more
def test_the_defaults_of_trl_are_those_that_are_marked():
    fields = importlib.import_module("trl.trainer.grpo_config").GRPOConfig.__dataclass_fields__
    assert fields["vllm_importance_sampling_mode"].default == "sequence_mask"
    assert fields["vllm_importance_sampling_clip_max"].default == script.BOUND
    assert CORRECTIONS["sequence masked"] == masked("sequence", None, script.BOUND)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"worlds": ("long-answer",)},
            r"unknown entry 'long-answer' of worlds; the nearest is 'long-answers'",
        ),
        ({"samplers": ("noisy",)}, r"unknown entry 'noisy' of samplers; the nearest is 'noise'"),
        ({"rewards": ("shares",)}, r"unknown entry 'shares' of rewards; the nearest is 'share'"),
        ({"mismatches": (0.0,)}, r"mismatch = 0.0: give finite mismatches"),
        ({"gaps": (math.inf,)}, r"mismatch = inf: give finite mismatches and gaps above 0"),
        ({"drifts": (-1.0,)}, r"drift = -1.0: a distance is finite and at least 0"),
        ({"lengths": (1,)}, r"T = 1: right answers hold two tokens"),
        ({"horizons": ()}, r"horizons = \(\): give at least one"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(SMALL, **change))


OPTIONS = [
    ({"worlds": ("count-mod-3",)}, "small"),
    ({"horizons": (3,)}, "small"),
    ({"samplers": ("temperature",)}, "small"),
    ({"mismatches": (0.7,)}, "small"),
    ({"drifts": (0.5,)}, "small"),
    ({"rewards": ("half",)}, "one row"),
    ({"lengths": (100,)}, "one row"),
    ({"gaps": (0.2,)}, "one row"),
]


@pytest.mark.parametrize(("change", "world"), only(OPTIONS[4:], OPTIONS))
def test_every_option_moves_the_numbers(change, world):
    start = dataclasses.replace(SMALL, mismatches=(0.3,), drifts=(0.0,), lengths=(64,))
    found = []
    for cfg in (start, dataclasses.replace(start, **change)):
        key = next(key for key in script.keys(cfg) if (key[1] == "one row") == (world == "one row"))
        found.append(script.cell(cfg, *key)[0]["variance"])
    assert abs(found[0] - found[1]) > MOVES


def test_the_script_writes_rows_and_a_figure(tmp_path):
    script.main(
        dataclasses.replace(
            SMALL, horizons=(2,), drifts=(0.0,), results=tmp_path / "r", figures=tmp_path / "f"
        )
    )
    assert (tmp_path / "r" / "sampler_mismatch.parquet").stat().st_size > 0
    assert (tmp_path / "f" / "sampler_mismatch.png").stat().st_size > 10_000
