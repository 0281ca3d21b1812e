"""experiments/stability.py: thresholds, what lies above them to printed digits, and the same with noise."""

import math

import pandas as pd
import pytest
import torch
from scipy.optimize import brentq

from experiments import stability as experiment_script
from experiments.stability import ADVANTAGES, Config, estimator_of, rate, threshold
from tests.properties.tolerances import EXACT, MOVES
from tests.thinned import more
from ticgrpo_theory.estimators.advantages import centred
from ticgrpo_theory.exact import policy_gradient
from ticgrpo_theory.exact.mean.mean_field import MeanField
from ticgrpo_theory.worlds import WORLDS, first_token

pytestmark = more

CFG = Config()


def field_of(world: str, name: str, advantage: str) -> MeanField:
    return MeanField(WORLDS[world].build(), estimator_of(world, name, ADVANTAGES[advantage]))


@pytest.mark.parametrize("advantage", ADVANTAGES)
@pytest.mark.parametrize(
    "world, name, limit",
    [
        # J = 2 p (1 - p): eta K c < 4, and eta c < 4 where w' makes the inner loop ascend J itself.
        ("xor", "stale", 4.0),
        ("xor", "no_is", 4.0),
        ("xor", "grpo", 4.0),
        ("xor", "tic_grpo", 4.0 * CFG.K),
        # J = p (1 - p) has half that curvature.
        ("length-trap", "stale", 8.0),
        ("length-trap", "grpo", 8.0),
    ],
)
def test_the_threshold_is_the_one_of_the_linear_map(world, name, advantage, limit):
    found = threshold(field_of(world, name, advantage), CFG.K, rate(CFG, world, advantage))
    assert found == pytest.approx(limit, rel=1e-6)


def test_weight_one_at_the_current_score_has_a_threshold_of_its_own():
    # Right answers are longer by C = E[(r - mu) |s|] = 1/16. The score at theta then adds -C H (theta -
    # theta_old) to the held gradient; along (1, -1) H = 1/2, and with s = eta K the multiplier is
    # 1 - 8 (1 - (1 - s / (32 K))^K), which is -1 at s = 32 K (1 - (3/4)^(1/K)).
    K = CFG.K
    expected = 32 * K * (1 - 0.75 ** (1 / K))
    found = threshold(field_of("length-trap", "no_is", "centred"), K, rate(CFG, "length-trap", "centred"))
    assert found == pytest.approx(expected, rel=1e-6)
    # Partner: the gradient held has another one.
    assert abs(found - 8.0) > 1.0


def swing(field: MeanField, eta: float, K: int) -> tuple[float, float]:
    """(||grad J||^2, pi(0)) of the cycle p, 1 - p, which is what symmetric maps fall into."""

    def after(p: float) -> float:
        theta = first_token(p)(field.mdp)[None]
        moved = field.outer_step(theta, torch.tensor([eta], dtype=torch.float64), K)
        return float(torch.softmax(moved[0, 0], dim=0)[0])

    p = float(brentq(lambda p: after(p) - (1 - p), 0.52, 0.95, xtol=1e-14))
    return float(policy_gradient(field.mdp, first_token(p)(field.mdp)).square().sum()), p


@pytest.mark.parametrize(
    "name, advantage, step, gradient_sq",
    [
        ("stale", "centred", 4.2, 1.670701e-2),
        ("no_is", "centred", 4.2, 1.670701e-2),
        ("grpo", "centred", 4.2, 3.027413e-2),
        ("stale", "standardised", 4.2, 1.691350e-2),
        ("grpo", "standardised", 4.2, 3.163828e-2),
    ],
)
def test_above_the_threshold_the_maps_swing_as_printed(name, advantage, step, gradient_sq):
    found, _ = swing(field_of("xor", name, advantage), step * rate(CFG, "xor", advantage), CFG.K)
    assert found == pytest.approx(gradient_sq, abs=0.51e-8)


def test_the_trajectory_ratio_swings_within_its_inner_loop():
    # Sixteen inner steps are sixteen steps on J: the cycle is that of one step.
    eta = 66 * rate(CFG, "xor", "centred")
    found, p = swing(field_of("xor", "tic_grpo", "centred"), eta, 1)
    assert found == pytest.approx(1.089662e-2, abs=0.51e-8)
    end = field_of("xor", "tic_grpo", "centred").outer_step(
        first_token(p)(WORLDS["xor"].build())[None], torch.tensor([eta], dtype=torch.float64), CFG.K
    )
    assert float(torch.softmax(end[0, 0], dim=0)[0]) == pytest.approx(p, abs=1e-9)


@pytest.fixture(scope="module")
def exact() -> pd.DataFrame:
    cfg = Config(worlds=("xor",), advantages=("centred",), steps=(3.0, 5.0, 30.0), outer_steps=50, tail=10)
    made = [
        row
        for key in experiment_script.keys(cfg)
        if key[2] == "infinite"
        for row in experiment_script.cell(cfg, *key)
    ]
    return pd.DataFrame(made).set_index(["estimator", "step"])


def test_maps_rest_below_their_threshold_and_swing_above(exact):
    for name in ("stale", "no_is", "grpo"):
        assert exact.distance[name, 3.0] < experiment_script.CONVERGED
        assert exact.gradient_sq[name, 3.0] < 1e-12
        assert exact.distance[name, 5.0] > 0.1
    for step in (3.0, 5.0, 30.0):
        assert exact.distance["tic_grpo", step] < experiment_script.CONVERGED
    # Far above, the gradient alone would pass for convergence: the policy is sure, and wrong half the time.
    assert exact.gradient_sq["stale", 30.0] < 0.1 * exact.gradient_sq["stale", 5.0]
    assert exact.distance["stale", 30.0] > 0.49


def test_with_equal_visits_weight_one_and_the_held_gradient_are_one_algorithm():
    # sum_i A_i = 0 and every response reads the row twice: what the scores differ by cancels.
    theta_old = first_token(0.7)(WORLDS["xor"].build())[None]
    one, other = (field_of("xor", name, "centred") for name in ("no_is", "stale"))
    torch.testing.assert_close(one(theta_old + 0.3, theta_old), other(theta_old + 0.3, theta_old), **EXACT)
    moved = theta_old + torch.tensor([0.4, -0.3], dtype=torch.float64)
    torch.testing.assert_close(one(moved, theta_old), other(moved, theta_old), **EXACT)
    # Partner: with lengths of their own they are two.
    one, other = (field_of("length-trap", name, "centred") for name in ("no_is", "stale"))
    assert float((one(moved, theta_old) - other(moved, theta_old)).norm()) > MOVES


@pytest.mark.parametrize("place", ["xor", "length-trap"])
def test_the_step_is_measured_in_multiples_of_the_gradient(place):
    mdp = WORLDS[place].build()
    theta = first_token(0.5001)(mdp)
    for advantage in ADVANTAGES:
        field = field_of(place, "grpo", advantage)(theta[None], theta[None])[0]
        c = 1 / (CFG.K * rate(CFG, place, advantage))
        torch.testing.assert_close(field, c * policy_gradient(mdp, theta), atol=0.0, rtol=1e-6)


def test_the_threshold_is_seen_through_the_noise():
    cfg = Config(
        worlds=("xor",),
        estimators=("stale", "tic_grpo"),
        sampled_steps=(2.0, 8.0),
        replicates=4,
        sampled_outer_steps=40,
    )
    made = pd.DataFrame(
        [
            row
            for name in cfg.estimators
            for row in experiment_script.cell(cfg, "xor", name, "reused", "leave_one_out")
        ]
    ).set_index(["estimator", "step"])
    jump = made.distance["stale", 8.0] - made.distance["stale", 2.0]
    assert jump > 0.1 + made.distance_half["stale", 8.0] + made.distance_half["stale", 2.0]
    assert abs(made.distance["tic_grpo", 8.0] - made.distance["tic_grpo", 2.0]) < 0.1 * jump + 0.02


def test_the_distance_is_that_of_the_probability():
    mdp = WORLDS["length-trap"].build()
    field = MeanField(mdp, estimator_of("length-trap", "stale", centred()))
    J, _ = field.returns(first_token(0.8)(mdp)[None])
    highest = experiment_script.highest(mdp)
    assert highest == pytest.approx(0.25, abs=EXACT["atol"])
    assert float(experiment_script.distance(J, highest)) == pytest.approx(0.3, abs=EXACT["atol"])


@pytest.mark.parametrize(
    "change, text",
    [
        ({"worlds": ("bandit",)}, "unknown entry 'bandit' of worlds; .*worlds: xor, length-trap"),
        ({"steps": (math.inf,)}, "step = inf: eta K c is finite and above 0"),
        ({"start": 0.5}, "start = 0.5: a probability other than 1/2"),
        ({"tail": 501}, "tail = 501, outer_steps = 500"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(Config(**change))


def test_the_script_writes_rows_and_a_figure_and_says_where_maps_rest(tmp_path, capsys):
    cfg = Config(
        worlds=("xor",),
        estimators=("stale",),
        advantages=("centred",),
        steps=(2.0, 6.0),
        K=2,
        outer_steps=60,
        tail=10,
        sampled_steps=(2.0, 6.0),
        group_size=4,
        replicates=2,
        sampled_outer_steps=4,
        results=tmp_path / "results",
        figures=tmp_path / "figures",
    )
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "stability.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "stability.png").stat().st_size > 10_000
    assert "converges up to" in capsys.readouterr().out
