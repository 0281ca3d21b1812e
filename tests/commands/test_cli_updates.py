"""--prompts and --scope: whole updates, what an answer says of them, and what is refused."""

import pytest
import torch

from tests.commands.typed_commands import answer, make_own, refusal, run
from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from ticgrpo_theory.cli.request import world_of
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.exact import expected_gradient, gradient_moments
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.experiment.imports import imported

UNEQUAL = """
prompts:
- {weight: 0.25, kind: prefix_tree, vocab_size: 2, horizon: 2, reward: {0 1: 1}}
- {weight: 0.75, kind: prefix_tree, vocab_size: 2, horizon: 2, eos: 1, reward: {1: 1}}
share_rows: false
"""

OF_UPDATES = '''
import dataclasses

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import batch_standardised
from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.estimators.scales import batch_token_mean

POOLED = dataclasses.replace(ESTIMATORS["grpo"], advantage=batch_standardised(), scale=batch_token_mean)
REFILLED = dataclasses.replace(ESTIMATORS["grpo"], filter=drop_equal("refill"))


def rows(batch):
    """Against the mean of all rows that it is given, per token of theirs."""
    A = batch.reward - batch.reward.mean()
    return (A[:, None] * batch.logp * batch.mask).sum() / batch.mask.sum()


def told(batch):
    """The same, within each group of the update."""
    assert batch.group is not None
    A = batch.reward.clone()
    for g in batch.group.unique():
        A[batch.group == g] -= batch.reward[batch.group == g].mean()
    return (A[:, None] * batch.logp * batch.mask).sum() / batch.mask.sum()
'''

WEIGHED = (
    "every prompt is in every update once and counts alike, 1/2 each: the weights 0.25, 0.75 of the world "
    "are not read, though grad J has them"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(make_own(tmp_path))
    (tmp_path / "unequal.yaml").write_text(UNEQUAL)
    (tmp_path / "whole.py").write_text(OF_UPDATES)
    return tmp_path


def typed(estimator: str, *options: str, G: int = 2) -> tuple[str, ...]:
    return ("--world", "unequal.yaml", "--estimator", estimator, "--group-size", str(G), *options)


def expected(estimator, **options) -> torch.Tensor:
    mdp, old = world_of("unequal.yaml")
    return expected_gradient(mdp, old, old, estimator, 2, **options)


def gradient_of(capsys, *options: str) -> torch.Tensor:
    (entry,) = answer(capsys, "gradient", *options)["estimators"]
    return torch.tensor(entry["gradient"], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "prompts"), [("POOLED", "2"), ("POOLED", "each"), ("REFILLED", "3"), ("grpo", "each")]
)
def test_a_gradient_is_that_of_the_library_over_whole_updates(capsys, name, prompts):
    named = name if name == "grpo" else f"whole.py:{name}"
    estimator = ESTIMATORS["grpo"] if name == "grpo" else imported(named, "estimator")
    found = gradient_of(capsys, *typed(named, "--prompts", prompts))
    right = expected(estimator, prompts=prompts if prompts == "each" else int(prompts))
    torch.testing.assert_close(found, right, **SAME_BITS)
    # Partner: a group of a prompt that is drawn is another update.
    alone = gradient_of(capsys, *typed(named)) if name != "REFILLED" else expected(ESTIMATORS["grpo"])
    assert float((alone - right).norm()) > VISIBLE


@pytest.mark.parametrize("name", ["rows", "told"])
def test_a_callable_is_given_the_rows_of_the_update(capsys, name):
    found = gradient_of(capsys, *typed(f"whole.py:{name}", "--prompts", "2", "--scope", "batch"))
    objective = imported(f"whole.py:{name}", "estimator")
    torch.testing.assert_close(found, expected(objective, prompts=2, scope="batch"), **EXACT)
    if name == "rows":
        in_groups = gradient_of(capsys, *typed("whole.py:rows", "--prompts", "2"))
        torch.testing.assert_close(in_groups, expected(objective), **EXACT)
        assert float((in_groups - found).norm()) > VISIBLE


def test_the_head_says_of_what_updates_are_and_a_note_what_is_weighed(capsys):
    found = answer(capsys, "gradient", *typed("grpo", "--prompts", "each"))
    assert found["prompts"] == "each" and "scope" not in found
    assert found["estimators"][0]["notes"] == [f"grpo: {WEIGHED}"]
    for command in ("gradient", "bias", "moments"):
        assert run(command, *typed("grpo", "--prompts", "each")) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert printed.startswith(f"grpo: {WEIGHED}") and "; updates of each prompt once; " in printed
        assert printed.count("every prompt is in every update") == 1
    assert run("gradient", *typed("whole.py:rows", "--prompts", "2", "--scope", "batch")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "G = 2; updates of 2 prompts, given whole; theta = theta_old" in printed
    assert "whole.py:rows: by groups, 625 updates listed in every order" in printed and WEIGHED not in printed
    without = answer(capsys, "gradient", *typed("grpo"))
    assert not {"prompts", "scope"} & {*without} and without["estimators"][0]["notes"] == []


def test_weights_that_are_equal_need_no_note(capsys):
    found = answer(capsys, "gradient", "--world", "two-prompts", "--estimator", "grpo", "--prompts", "each")
    assert found["estimators"][0]["notes"] == []


def test_moments_are_those_of_whole_updates(capsys):
    mdp, old = world_of("unequal.yaml")
    for name, prompts in (("POOLED", 2), ("POOLED", "each")):
        estimator = imported(f"whole.py:{name}", "estimator")
        (entry,) = answer(capsys, "moments", *typed(f"whole.py:{name}", "--prompts", str(prompts)))[
            "estimators"
        ]
        right = gradient_moments(mdp, old, old, estimator, 2, prompts=prompts)
        torch.testing.assert_close(entry["variance"], right.variance, **EXACT)
        assert entry["variance"] < 0.9 * gradient_moments(mdp, old, old, estimator, 2).variance
        assert ([f"whole.py:POOLED: {WEIGHED}"] == entry["notes"]) == (prompts == "each")


def test_bias_follows_the_mean_of_whole_updates_and_counts_prompts_alike(capsys):
    mdp, old = world_of("unequal.yaml")
    how = ("--prompts", "each", "--inner-steps", "1", "--learning-rate", "4")
    (entry,) = answer(capsys, "bias", *typed("grpo", *how))["estimators"]
    theta = old + 4 * expected("grpo", prompts="each")
    shares = clip_fractions(mdp, [old, theta], old, ESTIMATORS["grpo"], 2, prompts="each")
    assert [row["clip_fraction"] for row in entry["rows"]] == shares
    assert shares[1] > 0 and shares != clip_fractions(mdp, [old, theta], old, ESTIMATORS["grpo"], 2)
    torch.testing.assert_close(entry["rows"][1]["drift"], float((theta - old).norm()), **EXACT)
    (entry,) = answer(capsys, "bias", *typed("whole.py:POOLED", *how))["estimators"]
    assert [row["clip_fraction"] for row in entry["rows"]] == [None, None]


def test_updates_that_cannot_be_listed_are_drawn_and_said_to_be(capsys):
    options = typed("whole.py:rows", "--prompts", "4", "--scope", "batch", "--limit", "1000")
    for command in ("gradient", "moments"):
        (entry,) = answer(capsys, command, *options, "--tolerance", "0.2")["estimators"]
        assert entry["method"] == "sampled"
        assert any("is SAMPLED" in note and " updates, intervals by" in note for note in entry["notes"])
    (entry,) = answer(capsys, "gradient", *options)["estimators"]
    found = torch.tensor(entry["gradient"], dtype=torch.float64)
    right = expected(imported("whole.py:rows", "estimator"), prompts=4, scope="batch")
    assert float((found - right).norm()) <= entry["norm_half_width"] < VISIBLE
    each = typed("whole.py:POOLED", "--prompts", "each", "--method", "sampled", "--tolerance", "0.2")
    (entry,) = answer(capsys, "gradient", *each)["estimators"]
    assert entry["notes"][0] == f"whole.py:POOLED: {WEIGHED}" and "SAMPLED" in entry["notes"][1]
    assert "every prompt" not in entry["notes"][1]


NUMBER = "give a whole number P >= 1 of groups, or each for every prompt once"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (typed("grpo", "--prompts", "0"), f"--prompts 0: {NUMBER}"),
        (typed("grpo", "--prompts", "-1"), f"--prompts -1: {NUMBER}"),
        (typed("grpo", "--prompts", "2.5"), f"--prompts 2.5: {NUMBER}"),
        (typed("grpo", "--prompts", "all"), f"--prompts all: {NUMBER}"),
        (
            ("--world", "xor", "--prompts", "each"),
            "--prompts each: xor has one prompt, and an update",
        ),
        (
            typed("grpo", "--scope", "batch"),
            "--scope batch: grpo is an Estimator, and its parts say",
        ),
        (
            typed("whole.py:REFILLED", "--prompts", "each"),
            "drop_equal('refill') draws new prompts, and prompts='each' has every prompt once",
        ),
        (
            ("--world", "unequal.yaml", "--estimator", "whole.py:POOLED", "--group-size", "inf"),
            "reads whole updates, and an update of infinite groups is none: give a finite group_size",
        ),
    ],
)
def test_updates_that_are_none_are_refused_in_one_line(capsys, options, says):
    for command in ("gradient", "bias", "moments"):
        assert says in refusal(capsys, command, *options)


@pytest.mark.parametrize("steps", ["reused", "disjoint"])
@pytest.mark.parametrize("options", [("--prompts", "2"), ("--scope", "batch")])
def test_groups_that_are_followed_are_no_updates(capsys, steps, options):
    said = refusal(capsys, "bias", *typed("whole.py:rows", *options, "--steps", steps))
    assert f"--steps {steps} follows groups of one prompt: leave --prompts and --scope out" in said


@pytest.mark.parametrize("command", ["decompose", "simulate", "bounds"])
def test_commands_of_one_group_have_no_such_option(capsys, command):
    assert run(command, "--prompts", "2") == 2 and run(command, "--scope", "batch") == 2
