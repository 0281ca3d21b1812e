"""learning_curves.py: what parts two runs, worked by hand, and what an interval allows to say."""

import math
from types import SimpleNamespace

import pytest
import torch

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.simulate import learning_curves
from ticgrpo_theory.simulate.learning_curves import Course, compared, recorded, returns, verdict
from ticgrpo_theory.worlds import WORLDS

COURSE = Course(group_size=4, inner_steps=1, outer_steps=3, replicates=2, seed=0, record_every=2)
# J of two replicates at n = 0, 2 and, last, 3.
RUNS = {"a": [[0.0, 1.0, 2.0], [0.0, 3.0, 4.0]], "b": [[0.0, 2.0, 5.0], [0.0, 2.0, 3.0]]}
RATES = {"a": 0.1, "b": 0.2}
XOR = WORLDS["xor"].build()
OLD = WORLDS["xor"].theta_old(XOR)


def traced(J: list[list[float]], frozen: tuple[int, int] = (-1, -1)) -> SimpleNamespace:
    values = torch.tensor(J, dtype=torch.float64)
    return SimpleNamespace(
        expected_return=values[:, :-1], final_return=values[:, -1], frozen=torch.tensor(frozen)
    )


@pytest.fixture
def rows(monkeypatch):
    """`compared` of the two runs above, which their learning rates tell apart."""
    of = {RATES[name]: traced(J) for name, J in RUNS.items()}
    monkeypatch.setattr(learning_curves, "simulate", lambda *_, learning_rate, **__: of[learning_rate])
    runs = {name: (ESTIMATORS["grpo"], rate) for name, rate in RATES.items()}
    made = compared(XOR, OLD, runs, COURSE, "a")
    return {(row["estimator"], row["n"]): row for row in made}


def test_the_records_end_at_the_last_step():
    assert recorded(COURSE) == [0, 2, 3]


def test_gaps_are_taken_replicate_by_replicate_and_their_means_over_the_records(rows):
    # b - a: (0, 1, 3) and (0, -1, -1); running means (0, 1/2, 4/3) and (0, -1/2, -2/3).
    last = rows["b", 3]
    assert last["J"] == 4 and last["gap"] == 1 and last["mean_gap"] == pytest.approx(1 / 3)
    # Half the distance of two replicates is one standard error, 12.7062 of which are a half width.
    assert last["gap_half"] == pytest.approx(12.7062 * 2, rel=1e-5)
    assert last["mean_gap_half"] == pytest.approx(12.7062 * 1, rel=1e-5)
    assert rows["b", 2]["gap"] == 0 and rows["b", 2]["gap_half"] > 1
    assert all(rows["a", n]["gap"] == rows["a", n]["gap_half"] == 0 for n in (0, 2, 3))


def test_a_frozen_replicate_has_no_return_at_the_end(monkeypatch):
    monkeypatch.setattr(learning_curves, "simulate", lambda *_, **__: traced(RUNS["a"], (-1, 2)))
    J = returns(XOR, OLD, ESTIMATORS["grpo"], 0.1, COURSE)
    assert J[0].tolist() == [0, 1, 2] and math.isnan(J[1, -1])


def test_replicates_are_paired():
    runs = {
        "grpo": (ESTIMATORS["grpo"], 0.1),
        "same": (ESTIMATORS["grpo"], 0.1),
        "far": (ESTIMATORS["grpo"], 0.5),
    }
    made = compared(XOR, OLD, runs, COURSE, "grpo")
    last = {row["estimator"]: row for row in made if row["n"] == 3}
    assert last["same"]["gap"] == last["same"]["gap_half"] == 0
    assert last["far"]["gap"] != 0


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [
        (0.0, 0.0, "the same, to the bit"),
        (0.25, 0.5, "+0.2500 +- 0.5000: undecided"),
        (-0.5, 0.5, "-0.5000 +- 0.5000: undecided"),
        (0.75, 0.5, "+0.7500 +- 0.5000: ahead"),
        (-0.75, 0.5, "-0.7500 +- 0.5000: behind"),
    ],
)
def test_what_an_interval_allows_to_say(mean, half, said):
    assert verdict(mean, half) == said
