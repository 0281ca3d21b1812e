"""experiments/questions.py: the committed numbers, those known beforehand, and some of them again."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import questions as script
from tests.thinned import one_in
from ticgrpo_theory.claims.questions.losses import k2, mixed
from ticgrpo_theory.claims.questions.public import questions
from ticgrpo_theory.claims.questions.settings import Setting, mean, start
from ticgrpo_theory.experiment.results_file import read

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    options = {"config": script.Config(), "results_version": script.EXPERIMENT.version, "folder": RESULTS}
    return read(script.EXPERIMENT.name, **options)


def values(made: pd.DataFrame, threads: str) -> dict[str, float]:
    of = made[made.threads.str.contains(threads, regex=False)]
    assert len(of), threads
    return dict(zip(of.reading, of.value, strict=True))


def test_every_question_has_readings_that_differ_and_a_name_of_its_own(made):
    assert made.groupby("number").size().min() >= 2
    assert (made.groupby("number").value.nunique() > 1).all()
    assert made.groupby("number").threads.first().nunique() == made.number.nunique() == len(questions())
    assert made.threads.str.fullmatch(r"[\w.-]+#\d+(, [\w.-]+#\d+)*").all()


@pytest.mark.parametrize("number", one_in(5, range(len(questions()))))
def test_a_question_computed_again_has_the_committed_numbers(made, number):
    for row in script.cell(script.Config(), number):
        (kept,) = made[(made.number == number) & (made.reading == row["reading"])].value
        assert kept == pytest.approx(row["value"], rel=1e-9, abs=1e-12)


def test_what_is_known_beforehand(made):
    pieces = values(made, "trl#3231")
    assert pieces["micro-batches of one row"] == pytest.approx(pieces["mean of responses"], abs=1e-12) != 1
    assert abs(values(made, "unsloth-zoo#869")["without"]) < 1e-12
    assert values(made, "unsloth-zoo#869")["with"] == pytest.approx(0.5)
    entropy = values(made, "trl#6140")
    assert abs(entropy["mean of -logp"]) < 1e-12
    assert entropy["-logp held, times logp"] == pytest.approx(1, abs=1e-12)
    difficulty = values(made, "tinker-cookbook#579")
    assert max(difficulty["G = 2"], difficulty["G = 3"]) < 1e-12 < difficulty["G = 4"] < difficulty["G = 16"]
    assert values(made, "slime#179")["of responses, theta / sampler"] == pytest.approx(1, abs=1e-12)
    assert values(made, "tianshou#433")["either sign"] < values(made, "tianshou#433")["A < 0 alone"]


def test_a_masked_penalty_by_every_group_of_two():
    """The share that is left on `xor`, by hand: groups of two, both right or both wrong are masked."""
    setting: Setting = start("xor")._replace(options={"theta_ref": torch.zeros(1, 2, dtype=torch.float64)})
    theta = setting.theta.clone().requires_grad_()
    logp = theta.log_softmax(-1)[0]
    half = torch.tensor(0.5, dtype=torch.float64).log()
    responses = [(0, 0), (0, 1), (1, 0), (1, 1)]
    total = torch.zeros((), dtype=torch.float64)
    for one in responses:
        for other in responses:
            if (one[0] != one[1]) == (other[0] != other[1]):
                continue
            chance = torch.stack([logp[a] for a in (*one, *other)]).sum().exp().detach()
            total = total - chance * sum((logp[a] - half) ** 2 / 2 for a in (*one, *other)) / 2
    by_hand = torch.autograd.grad(total, theta)[0]
    found = mean(setting, lambda b: k2(b, mixed(b)))
    torch.testing.assert_close(found, by_hand, rtol=0, atol=1e-14)


def test_the_title_counts_what_turns_round(made):
    turned = int((made[made.measure == "cosine"].value < 0).sum())
    title = script.draw(made).get_suptitle()
    assert turned >= 2 and title.endswith(f"{turned} of {len(made)} readings turn the gradient round")
