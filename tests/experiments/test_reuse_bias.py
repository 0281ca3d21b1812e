"""experiments/reuse_bias.py: printed digits, the growth eta k / G, fresh groups, and who gains more."""

import pandas as pd
import pytest

from experiments import reuse_bias as experiment_script
from experiments.reuse_bias import Config
from tests.properties.tolerances import EXACT, PRINTED, VISIBLE
from tests.thinned import more
from ticgrpo_theory.stats.power_law import fit_power_law

pytestmark = more


def made(**options) -> pd.DataFrame:
    """Rows of a Config, fresh groups kept to the fewest unless a test gives more."""
    frame = pd.DataFrame(
        experiment_script.rows(Config(**{"disjoint_sizes": (2,), "disjoint_K": 1} | options))
    )
    return frame.set_index(["world", "estimator", "batches", "group_size", "eta", "k"]).sort_index()


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    """One step of 1/160 and its double."""
    names = ("trajectory z", "token z", "trajectory")
    return made(
        worlds=("match-tree",), estimators=names, group_sizes=(2, 4, 8, 16), etas=(0.00625, 0.0125), K=1
    )


def tree(frame: pd.DataFrame, name: str, G: int, eta: float, k: int, batches: str = "reused") -> pd.Series:
    return frame.loc[("match-tree", name, batches, G, eta, k)]


@pytest.mark.parametrize(
    "G, bias, ratio, group_bias",
    [
        (2, 1.4471199177e-4, 0.99925, 6.1151861876e-5),
        (4, 7.2346135080e-5, 0.99912, 5.8884548373e-5),
        (8, 3.6170607142e-5, 0.99905, 3.5250429699e-5),
        (16, 1.8084689071e-5, 0.99902, 1.7982682575e-5),
    ],
)
def test_the_bias_of_one_step_comes_out_to_the_printed_digits(small, G, bias, ratio, group_bias):
    row = tree(small, "trajectory z", G, 0.00625, 1)
    assert row.bias == pytest.approx(bias, abs=PRINTED(14)["atol"])
    assert row.bias / row.predicted == pytest.approx(ratio, abs=PRINTED(5)["atol"])
    assert row.predicted * G / 0.00625 == pytest.approx(0.0463423963, abs=PRINTED(10)["atol"])
    assert 0.5 / row.scale == pytest.approx(0.4999790541, abs=PRINTED(10)["atol"])
    found = tree(small, "trajectory", G, 0.00625, 1).bias
    assert found == pytest.approx(group_bias, abs=PRINTED(14)["atol"])


def test_the_bias_of_a_larger_step_comes_out_to_the_printed_digits():
    frame = made(worlds=("match-tree",), estimators=("trajectory z",), group_sizes=(2, 4), etas=(0.1,), K=3)
    printed = {2: (2.2880950033e-3, 6.5238204335e-3), 4: (1.1418533107e-3, 3.2669042727e-3)}
    for G, biases in printed.items():
        for k, bias in zip((1, 3), biases, strict=True):
            found = tree(frame, "trajectory z", G, 0.1, k).bias
            assert found == pytest.approx(bias, abs=PRINTED(13)["atol"])


def test_the_bias_of_reuse_is_a_power_law_in_G_and_that_of_the_token_ratio_levels_off(small):
    def at(name: str) -> pd.Series:
        return small.bias.loc[("match-tree", name, "reused", slice(None), 0.00625, 1)]

    sizes = at("trajectory z").index.get_level_values("group_size").to_numpy(dtype=float)
    fit = fit_power_law(1 / sizes, at("trajectory z").to_numpy())
    assert fit is not None and fit.points == 4
    assert fit.slope == pytest.approx(1.0, abs=1e-3)
    token = at("token z").to_numpy()
    assert token[-1] > 0.8 * token[-2] > 0.3 * token[0]


def test_the_vector_of_the_bias_misses_its_first_order_by_the_second(small):
    one, two = (tree(small, "trajectory z", 8, eta, 1) for eta in (0.00625, 0.0125))
    assert two.miss / one.miss == pytest.approx(4.0, rel=VISIBLE)
    assert two.bias / one.bias == pytest.approx(2.0, rel=VISIBLE)


def test_fresh_groups_leave_no_bias_where_the_estimator_has_none():
    frame = made(group_sizes=(2,), etas=(0.5,), disjoint_sizes=(2, 3), disjoint_K=2, K=2)
    fresh = frame.xs("disjoint", level="batches").bias.groupby("estimator").max()
    for name in ("trajectory z", "trajectory"):
        assert fresh[name] < EXACT["atol"]
    # Partner: the same groups, and an estimator with a bias of its own; and the same estimator, reused.
    assert fresh["token z"] > VISIBLE
    assert fresh["grpo"] > VISIBLE
    assert frame.xs("reused", level="batches").bias.groupby("estimator").max()["trajectory z"] > VISIBLE


GAINS = {
    # World, estimator: expected gain of four steps with eta = 0.5, by G.
    ("match-tree", "trajectory"): {2: 0.06642035, 4: 0.10475269, 16: 0.12210678},
    ("match-tree", "token"): {2: 0.06273524, 4: 0.10227165, 16: 0.12248251},
    ("match-tree", "stale"): {2: 0.06314742, 4: 0.10255771, 16: 0.12271299},
    ("match-tree", "tic_grpo_eq11"): {2: 0.04508811, 4: 0.08060215, 16: 0.10797879},
    ("match-tree", "grpo"): {2: 0.04379087, 4: 0.08026832, 16: 0.10590440},
    ("match-row", "trajectory"): {16: 0.13003536},
    ("match-row", "token"): {16: 0.10811890},
    ("match-row", "stale"): {16: 0.12201997},
    ("match-row", "tic_grpo_eq11"): {16: 0.10085735},
    ("match-row", "grpo"): {16: 0.07427668},
}


@pytest.fixture(scope="module")
def gains() -> pd.Series:
    names = (*sorted({name for _, name in GAINS}), "tic_grpo")
    frame = made(estimators=names, group_sizes=(2, 4, 16), etas=(0.5,), K=4)
    return frame.gain.xs("reused", level="batches").xs(4, level="k").droplevel("eta")


@pytest.mark.parametrize("place", GAINS, ids=" ".join)
def test_the_gain_of_four_steps_comes_out_to_the_printed_digits(gains, place):
    for G, gain in GAINS[place].items():
        assert gains[(*place, G)] == pytest.approx(gain, abs=PRINTED(8)["atol"])


def test_who_gains_more_depends_on_world_group_size_and_clip(gains):
    tree, row = gains["match-tree"], gains["match-row"]
    assert tree["trajectory", 4] > max(tree["token", 4], tree["stale", 4])
    assert tree["trajectory", 16] < tree["token", 16] < tree["stale", 16]
    assert tree["tic_grpo_eq11", 16] > tree["grpo", 16]
    assert row["trajectory", 16] > row["stale", 16] > row["token", 16]
    # A clip costs either ratio more here than the choice between them.
    for free, clipped in (("trajectory", "tic_grpo_eq11"), ("token", "grpo")):
        assert tree[free, 16] - tree[clipped, 16] > 10 * abs(tree["trajectory", 16] - tree["token", 16])
    # Eq. 9 without its 1/|s|: the same direction, twice the step.
    assert gains["match-tree", "tic_grpo", 16] > 1.3 * tree["tic_grpo_eq11", 16]


@pytest.mark.parametrize("G, difference", [(2, -4.6250807692e-9), (4, -6.0293884891e-9)])
def test_the_second_order_difference_of_gains_comes_out_to_the_printed_digits(G, difference):
    frame = made(
        worlds=("match-tree",), estimators=("trajectory z", "token z"), group_sizes=(G,), etas=(0.001,), K=4
    )
    one, other = (tree(frame, name, G, 0.001, 4).gain for name in ("trajectory z", "token z"))
    assert one - other == pytest.approx(difference, abs=PRINTED(15)["atol"])


@pytest.mark.parametrize(
    "change, text",
    [
        ({"worlds": ("match",)}, "unknown entry 'match' of worlds; .*worlds: match-tree, match-row"),
        ({"estimators": ("gspo",)}, "unknown entry 'gspo' of estimators; .*estimators: trajectory z"),
        ({"group_sizes": (1,)}, "a group of one has A = 0 and moves nothing"),
        ({"disjoint_K": 0}, "disjoint_K = 0: theta moves at k = 1"),
        ({"etas": (0.0,)}, "eta = 0.0: a learning rate is finite and above 0"),
        ({"etas": ()}, "give at least one, and none twice"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(Config(**change))


def test_the_script_writes_rows_and_a_figure_and_says_who_gains(tmp_path, capsys):
    folders = {"results": tmp_path / "results", "figures": tmp_path / "figures"}
    cfg = Config(group_sizes=(2, 4), etas=(0.1,), K=2, disjoint_sizes=(2,), disjoint_K=1, **folders)
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "reuse_bias.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "reuse_bias.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "bias / predicted = " in shown
    assert "most, clipped: " in shown
