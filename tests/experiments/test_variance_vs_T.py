"""The price of the trajectory ratio: reference digits, how it grows, and where it turns round."""

import pandas as pd
import pytest

from experiments import variance_vs_T as experiment_script
from tests.properties.tolerances import PRINTED

REFERENCE = {
    # T: variance of trajectory and token ratio, the quotient, squared bias, crossover; drift 0.6.
    4: (0.09181925, 0.05927614, 1.549009, 0.01422778, 2.2873),
    8: (0.13949816, 0.02269529, 6.146569, 0.01185677, 9.8512),
    12: (0.23995102, 0.01362301, 17.613651, 0.01062725, 21.2970),
}
SECOND_MOMENT = {2: 1.346560, 4: 1.813223, 8: 3.287777, 12: 5.961471}


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    cfg = experiment_script.Config(horizons=(2, 4, 8, 12), drifts=(0.6,))
    return pd.DataFrame(experiment_script.rows(cfg)).set_index(["world", "T"])


@pytest.mark.parametrize("T", REFERENCE)
def test_the_variances_and_the_crossover_come_out_to_the_printed_digits(made, T):
    row = made.loc[("majority", T)]
    trajectory, token, ratio, bias, crossover = REFERENCE[T]
    assert row.variance_trajectory == pytest.approx(trajectory, abs=PRINTED(8)["atol"])
    assert row.variance_token == pytest.approx(token, abs=PRINTED(8)["atol"])
    assert row.variance_trajectory / row.variance_token == pytest.approx(ratio, abs=PRINTED(6)["atol"])
    assert row.bias_token**2 == pytest.approx(bias, abs=PRINTED(8)["atol"])
    assert row.crossover == pytest.approx(crossover, abs=PRINTED(4)["atol"])


def test_the_second_moment_of_the_ratio_is_a_power_of_that_of_one_token(made):
    for T, value in SECOND_MOMENT.items():
        row = made.loc[("majority", T)]
        assert row.ratio_second_moment == pytest.approx(value, abs=PRINTED(6)["atol"])
        assert row.ratio_second_moment == pytest.approx(row.predicted_second_moment, rel=1e-12)
    # Partner: half the exponent is told apart.
    row = made.loc[("majority", 12)]
    assert abs(row.ratio_second_moment / row.predicted_second_moment**0.5 - 1) > 0.5


def test_drifting_away_from_the_reward_turns_the_order_round(made):
    ratio = made.variance_trajectory / made.variance_token
    assert ratio[("all-ones", 4)] == pytest.approx(8.72e-2, abs=PRINTED(4)["atol"])
    assert ratio[("all-ones", 8)] == pytest.approx(3.53e-3, abs=PRINTED(5)["atol"])
    assert ratio[("all-ones", 12)] == pytest.approx(2.77e-4, abs=PRINTED(6)["atol"])
    assert ratio[("majority", 12)] > 10


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"horizons": (1,)}, "with T = 1 the token ratio is the trajectory ratio"),
        ({"drifts": (0.0,)}, "a distance is finite and above 0"),
        ({"worlds": ("minority",)}, "unknown entry 'minority' of worlds; the nearest is 'majority'"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text.replace("'", ".").replace(";", ".")):
        experiment_script.check(experiment_script.Config(**change))


def test_the_script_writes_rows_and_a_figure(tmp_path):
    cfg = experiment_script.Config(
        horizons=(2, 3), drifts=(0.3,), results=tmp_path / "results", figures=tmp_path / "figures"
    )
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "variance_vs_T.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "variance_vs_T.png").stat().st_size > 10_000
