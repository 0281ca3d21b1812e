"""experiments/decomposition_terms.py: printed residuals, and which term vanishes with what."""

import math

import pandas as pd
import pytest

from experiments import decomposition_terms as experiment_script
from experiments.decomposition_terms import REPAIRS, Config, grown
from tests.properties.tolerances import PRINTED, VISIBLE
from tests.thinned import more

pytestmark = more

PRINTED_RESIDUALS = {
    # Eq.: as printed, first terms repaired, sign repaired; one group of four.
    7: (0.3554956319, 0.1240099371, 0.2916580984),
    11: (0.3982558493, 0.2389723448, 0.2259994608),
}


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    cfg = Config(group_sizes=(64, 128, 256, 512, math.inf), drifts=(0.0, 0.001, 0.003, 0.01, 0.03, 0.8))
    return pd.DataFrame(experiment_script.rows(cfg))


def part(made: pd.DataFrame, world: str, equation: int, quantity: str) -> pd.DataFrame:
    found = made[(made.world == world) & (made.equation == equation) & (made.quantity == quantity)]
    assert len(found)
    return found


@pytest.mark.parametrize("equation", PRINTED_RESIDUALS)
def test_the_residuals_of_one_group_come_out_to_the_printed_digits(made, equation):
    of = made[(made.along == "group") & (made.equation == equation)].set_index("quantity").value
    assert [of[name] for name in REPAIRS][:3] == pytest.approx(
        PRINTED_RESIDUALS[equation], abs=PRINTED(10)["atol"]
    )
    assert of["both repaired"] < 1e-15


WORLDS = pytest.mark.parametrize("world", ["short-tree", "long-answers", "few-values"])
BOTH = pytest.mark.parametrize("equation", [7, 11])


@WORLDS
@BOTH
def test_sampling_error_1_falls_as_one_over_G_and_not_with_the_drift(made, world, equation):
    of = part(made, world, equation, "sampling_error_1")
    assert float(grown(of, "G").split()[0]) == pytest.approx(1.0, abs=3 * VISIBLE)
    assert of[of.group_size == math.inf].value.max() < 1e-15
    assert of[(of.along == "drift") & (of.drift == 0)].value.item() > VISIBLE


@WORLDS
def test_the_gradient_error_falls_with_the_drift_and_not_with_G(made, world):
    of = part(made, world, 7, "gradient_error")
    assert grown(of, "drift").startswith("1.00 <0.8")
    assert of[of.group_size == math.inf].value.item() > VISIBLE
    assert part(made, world, 11, "gradient_error").value.max() == 0.0


@WORLDS
@BOTH
def test_the_clip_error_is_zero_until_the_clip_acts_and_then_stays_at_every_G(made, world, equation):
    of = part(made, world, equation, "clip_error")
    assert grown(of, "drift") == "exact <0.8"
    assert of[of.along == "G"].value.min() > VISIBLE


@BOTH
def test_sampling_error_2_vanishes_with_nothing_unless_all_lengths_are_equal(made, equation):
    for world in ("short-tree", "long-answers"):
        of = part(made, world, equation, "sampling_error_2")
        assert of[of.group_size == math.inf].value.item() > VISIBLE
        assert of[(of.along == "drift") & (of.drift == 0)].value.item() > VISIBLE
    assert part(made, "few-values", equation, "sampling_error_2").value.max() < 1e-15


@WORLDS
@BOTH
def test_the_repaired_sum_closes_everywhere_and_the_printed_one_does_not(made, world, equation):
    assert part(made, world, equation, "both repaired").value.max() < 1e-14
    of = part(made, world, equation, "residual as printed")
    least = of[of.group_size == math.inf].value.item()
    assert least > (VISIBLE if world != "few-values" or equation == 7 else VISIBLE / 2)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"equations": (9,)}, "equation 9 has no terms"),
        ({"worlds": ("long-answer",)}, "the nearest is 'long-answers'"),
        ({"drifts": (0.1,)}, "must hold 0 and inf"),
        ({"drifts": (0.0, -0.1)}, "a distance is finite and not below 0"),
        ({"group_sizes": (1, math.inf)}, "give group sizes of 2 or more"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(Config(**change))


def test_the_script_writes_rows_and_a_figure_and_prints_the_residuals(tmp_path, capsys):
    cfg = Config(
        worlds=("short-tree",),
        group_sizes=(4, math.inf),
        drifts=(0.0, 0.1, 0.8),
        results=tmp_path / "results",
        figures=tmp_path / "figures",
    )
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "decomposition_terms.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "decomposition_terms.png").stat().st_size > 10_000
    assert "residual as printed 0.3554956319" in " ".join(capsys.readouterr().out.split())
