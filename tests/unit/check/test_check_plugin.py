"""The marker of the pytest plugin, the demo, and the examples that users copy."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.thinned import more
from ticgrpo_theory.check import check_loss
from ticgrpo_theory.check.planted import PLANTED, mask_off_by_one
from ticgrpo_theory.check.pytest_plugin import judge
from ticgrpo_theory.check.spec import named
from ticgrpo_theory.cli.main import main

ROOT = Path(__file__).parents[3]

MARKED = """
import pytest
from ticgrpo_theory.check.planted import mask_off_by_one


@pytest.fixture
def loss():
    return mask_off_by_one


@pytest.mark.ticgrpo(requires=["order"])
def test_order(loss):
    return loss


@pytest.mark.ticgrpo(requires=["mask"])
def test_mask(loss):
    return loss


@pytest.mark.ticgrpo(requires=["mask"])
def test_nothing():
    pass


def test_unmarked(request):
    assert request.node.get_closest_marker("ticgrpo") is None
"""


def test_the_marker_judges_what_a_test_returns(tmp_path):
    (tmp_path / "test_mine.py").write_text(MARKED)
    plugin = ["-p", "ticgrpo_theory.check.pytest_plugin", "-p", "no:cacheprovider"]
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", *plugin, "-c", "/dev/null", "--rootdir",
         str(tmp_path), str(tmp_path / "test_mine.py")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 1 and "2 failed, 2 passed" in told.stdout, told.stdout
    assert "MASK FORGOTTEN" in told.stdout and "returned None: return the loss" in told.stdout


def test_options_may_be_returned_beside_the_loss():
    with pytest.raises(ValueError, match="scope = 'all'"):
        judge((mask_off_by_one, {"scope": "all"}), "test", requires=["mask"])


@pytest.mark.parametrize("loss", PLANTED, ids=lambda loss: loss.__name__)
def test_each_planted_bug_is_found(loss):
    heads = ("CHANGES WITH MICRO-BATCHES", "MASK FORGOTTEN", "NO SIGNAL", "BIASED")
    rows = ("sign", "mask", "microbatch", "unbiased_on_policy_any_length")
    assert check_loss(loss, rows=rows).verdict.startswith(heads[PLANTED.index(loss)])


@more
def test_the_demo_says_what_is_wrong_with_each(capsys):
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert [out.count(head) for head in ("-> CHANGES", "-> MASK", "-> NO SIGNAL", "-> BIASED")] == [1] * 4
    assert "E[g]   = [3/32 -3/32; -1/16 1/16]" in out


@pytest.mark.parametrize(
    ("name", "options", "rows", "holds"),
    [
        ("trl_style.py:loss", {}, ("mask", "microbatch"), [True, False]),
        ("trl_style.py:loss_of_update", {}, ("microbatch", "unbiased_on_policy"), [True, True]),
        ("verl_style.py:loss", {}, ("microbatch", "unbiased_on_policy_any_length"), [True, False]),
        (
            "reinforce_pp_update.py:objective", {"scope": "batch", "prompts": 2},
            ("order", "padding", "equal_rewards"), [True, True, True],
        ),
    ],
)  # fmt: skip
def test_examples_get_the_card_that_they_announce(name, options, rows, holds, monkeypatch):
    monkeypatch.chdir(ROOT)
    report = check_loss(named(f"examples/{name}"), rows=rows, **options)
    assert [row.holds for row in report.rows] == holds, report.rows
    assert not [note for note in report.notes if note.startswith("no answer")]
