"""No bound is violated on a small grid, hypotheses that fail are named, and a wrong constant is caught."""

import pandas as pd
import pytest

from experiments import theorem_bounds as experiment_script
from tests.thinned import more
from ticgrpo_theory import bounds
from ticgrpo_theory.bounds import certificates

pytestmark = more

TINY = {"outer_steps": 40, "replicates": 6}


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    cfg = experiment_script.Config(
        **TINY, others=(), estimators=("stale", "grpo"), inner_steps=(4,), spans=(0.01, 0.3), group_sizes=(4,)
    )
    return pd.DataFrame(experiment_script.rows(cfg))


def test_no_bound_is_violated(made):
    assert set(made.bound) == {"C1", "C2", "C2*", "T1", "T2"}
    assert made.violations.sum() == 0
    there = made[made.applies]
    assert (there.ratio >= 1).all() and (there[there.bound == "C1"].ratio < 1.4).all()
    # Bounds that know less of the run are looser.
    by_bound = there.groupby("bound").ratio.max()
    assert by_bound["C1"] < by_bound["T1"]


def test_a_bound_without_its_hypotheses_is_silent_and_says_why(made):
    silent = made[~made.applies]
    assert silent.right.isna().all() and (silent.why_not != "").all()
    far = silent[(silent.world == "xor") & (silent.estimator == "grpo") & (silent.eta_K == 0.3)]
    assert set(far.bound) == {"C2", "T1", "T2"} and (far.drift == "no bound").all()
    # With an acting clip and no bound on the drift the exact moves over all groups still certify the run.
    there = made[(made.world == "xor") & (made.estimator == "grpo") & (made.bound == "C2*")]
    assert there.applies.all() and (there.margin > 3).all()


def test_a_world_that_bends_more_than_its_constant_is_caught(monkeypatch):
    """Partner: L_J a tenth of what it is."""
    honest = bounds.instance_constants

    def flatter(*arguments):
        found = honest(*arguments)
        return bounds.InstanceConstants(
            found.mdp, {**found.values, "L_J": found.L_J / 10}, found.notes, found.missing, found.absent
        )

    monkeypatch.setattr(certificates, "instance_constants", flatter)
    cfg = experiment_script.Config(
        **TINY,
        worlds=("xor",),
        others=(),
        estimators=("stale",),
        inner_steps=(1,),
        spans=(0.3,),
        group_sizes=(4,),
    )
    made = pd.DataFrame(experiment_script.rows(cfg))
    assert made[made.bound == "C1"].violations.item() > 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"worlds": ("maze",)}, "unknown entry 'maze' of worlds; .*worlds: xor, tree"),
        ({"estimators": ("ppo",)}, "unknown entry 'ppo' of estimators; .*estimators: stale, grpo"),
        ({"spans": (0.1, 0.0)}, "bounds are for eta K > 0"),
        ({"replicates": 1}, "replicates = 1, outer_steps = 200: C2 is judged by the spread of at least 2"),
        ({"group_sizes": ()}, "give at least one, and none twice"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(experiment_script.Config(**change))


def test_the_script_writes_rows_and_a_figure(tmp_path):
    cfg = experiment_script.Config(
        worlds=("xor",),
        others=("length-trap",),
        estimators=("grpo", "tic, sum"),
        inner_steps=(4,),
        spans=(0.03, 0.1, 0.3),
        group_sizes=(4,),
        outer_steps=3,
        replicates=2,
        results=tmp_path / "results",
        figures=tmp_path / "figures",
    )
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "theorem_bounds.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "theorem_bounds.png").stat().st_size > 10_000
