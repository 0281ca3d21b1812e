"""What each bound keeps of the noise of responses with A < 0, on both sides of the claim."""

import pandas as pd
import pytest

from experiments import clip_effect as script
from tests.properties.tolerances import EXACT
from tests.thinned import more

pytestmark = more


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    cfg = script.Config(drifts=(-0.6, 0.02, 0.6))
    return pd.DataFrame(script.rows(cfg)).set_index(["world", "sign", "drift", "rule"])


def test_for_negative_advantages_an_upper_bound_cuts_noise_that_a_lower_bound_leaves(made):
    upper = made.loc[("parity", "A < 0", 0.6, "upper_only")]
    lower = made.loc[("parity", "A < 0", 0.6, "two_sided")]
    assert lower.kept > 0.95
    assert upper.kept < 0.1


def test_the_claim_turns_round_where_the_policy_drifts_towards_the_reward(made):
    upper = made.loc[("majority", "A < 0", 0.6, "upper_only")]
    lower = made.loc[("majority", "A < 0", 0.6, "two_sided")]
    assert upper.kept == pytest.approx(1.0, abs=EXACT["atol"])
    assert lower.kept < 1e-3
    assert lower.bias_share > 0.5


def test_both_rules_are_one_where_advantages_are_positive(made):
    for world in ("majority", "parity"):
        for drift in (-0.6, 0.6):
            upper, two_sided = (
                made.loc[(world, "A >= 0", drift, rule)] for rule in ("upper_only", "two_sided")
            )
            assert upper.second_moment == pytest.approx(two_sided.second_moment, rel=EXACT["rtol"])
    assert made.loc[("parity", "A >= 0", 0.6, "upper_only")].kept < 0.9


def test_no_rule_acts_near_theta_old(made):
    near = made.xs(0.02, level="drift")
    assert (near.kept - 1).abs().max() < EXACT["atol"]
    assert near.bias.max() < EXACT["atol"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"drifts": (0.0,)}, "a clip acts only away from 0"),
        ({"T": 1}, "a majority needs at least 2 tokens"),
        ({"worlds": ("paradise",)}, "unknown entry 'paradise' of worlds; the nearest is 'parity'"),
        ({"eps_low": -1.5}, "eps_low = -1.5"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        script.check(script.Config(**change))


def test_the_script_writes_rows_and_a_figure(tmp_path):
    script.main(script.Config(T=3, drifts=(-0.3, 0.3), results=tmp_path / "r", figures=tmp_path / "f"))
    assert (tmp_path / "r" / "clip_effect.parquet").stat().st_size > 0
    assert (tmp_path / "f" / "clip_effect.png").stat().st_size > 10_000
