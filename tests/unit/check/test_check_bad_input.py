"""Losses that are no losses, that misbehave, or that need what nobody knows."""

import itertools
import json
import re
import time

import pytest
import torch

from tests.thinned import more
from tests.unit.check.right_losses import token_clip
from ticgrpo_theory.check import assert_loss, check_loss
from ticgrpo_theory.check.report import SCHEMA

FEW = ("finite", "mask")


def of(value):
    """A loss that returns this of the right one."""

    def loss(logp, logp_old, advantages, mask):
        return value(token_clip(logp, logp_old, advantages, mask))

    return loss


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda _: None, "NO ANSWER: .*returned None, which is no number"),
        (lambda x: x * float("nan"), "NO ANSWER: the objective is nan"),
        (lambda x: x.expand(3), r"NO ANSWER: .*shape \(3,\)"),
    ],
)
def test_what_is_no_number_is_said(value, words):
    report = check_loss(of(value), rows=FEW)
    assert not report.answered and all(row.holds is None for row in report.rows)
    assert re.match(words, report.verdict), report.verdict


def test_a_detached_loss_has_no_signal():
    report = check_loss(of(torch.Tensor.detach), rows=("sign", "unbiased_on_policy"))
    assert report.verdict.startswith("NO SIGNAL") and report.row("unbiased_on_policy").holds is False


def test_changing_the_input_is_said():
    def loss(logp, logp_old, advantages, mask):
        logp_old.sub_(1.0)
        return token_clip(logp, logp_old, advantages, mask)

    assert "changes batch.logp_old in place" in check_loss(loss, rows=FEW).verdict


def test_a_loss_that_changes_from_call_to_call_gets_no_other_number():
    calls = itertools.count()

    def counting(logp, logp_old, advantages, mask):
        return (1 + next(calls)) * token_clip(logp, logp_old, advantages, mask)

    report = check_loss(counting, rows=FEW)
    assert report.verdict.startswith("NOT REPEATABLE")
    assert [row.holds for row in report.rows] == [False, None, None]


def test_an_ignored_argument_is_named():
    def loss(logp, logp_old, advantages, mask):
        return -(logp * mask).sum(1).mul(advantages).mean()

    notes = check_loss(loss, rows=("mask",)).notes
    assert notes == ("ignores logp_old",)
    assert check_loss(token_clip, rows=("mask",)).notes == ()


def test_a_row_that_raises_says_so_and_others_are_answered():
    def loss(logp, logp_old, advantages, mask):
        if logp.shape[1] > 5:
            raise KeyError("too wide")
        return token_clip(logp, logp_old, advantages, mask)

    report = check_loss(loss, rows=("padding", "order"))
    assert report.row("padding").holds is None and "KeyError: 'too wide'" in report.row("padding").detail
    assert report.row("order").holds is True and "no answer: padding" in report.verdict


def test_an_argument_that_nobody_knows_is_named_and_can_be_given():
    def loss(logp, logp_old, advantages, mask, entropy_bonus):
        return token_clip(logp, logp_old, advantages, mask) * entropy_bonus

    with pytest.raises(ValueError, match=r"needs entropy_bonus, .*--arg entropy_bonus=VALUE"):
        check_loss(loss)
    assert check_loss(loss, arguments={"entropy_bonus": 2.0}, rows=("mask",)).row("mask").holds
    with pytest.raises(ValueError, match="takes no such argument"):
        check_loss(loss, arguments={"bonus": 2.0})


def test_trainers_counts_are_given_where_they_are_taken():
    def loss(logp, logp_old, advantages, mask, num_items_in_batch):
        return -((logp - logp_old).exp() * advantages[:, None] * mask).sum() / num_items_in_batch

    report = check_loss(loss, rows=("microbatch", "unbiased_on_policy"))
    assert report.row("microbatch").holds is True and report.row("unbiased_on_policy").holds is True

    # The partner: the same mean over the tokens of the piece alone.
    def of_piece(logp, logp_old, advantages, mask):
        return loss(logp, logp_old, advantages, mask, mask.sum())

    assert check_loss(of_piece, rows=("microbatch",)).row("microbatch").holds is False


def test_a_loss_that_hangs_is_stopped():
    def loss(logp, logp_old, advantages, mask):
        while True:
            time.sleep(0.01)

    start = time.perf_counter()
    report = check_loss(loss, seconds=0.3)
    assert report.verdict.startswith("HANGS: no answer within 0.3 s") and not report.answered
    assert time.perf_counter() - start < 10


def test_what_is_printed_is_kept_apart(capsys):
    def loss(logp, logp_old, advantages, mask):
        print("step", flush=True)
        return token_clip(logp, logp_old, advantages, mask)

    report = check_loss(loss, rows=("mask",))
    assert capsys.readouterr() == ("", "") and any("it prints: step" in note for note in report.notes)
    assert json.loads(report.to_json())["schema"] == SCHEMA


def test_half_precision_has_tolerances_of_its_own_and_items_and_modules_are_taken():
    def loss(logp, logp_old, advantages, mask):
        short = token_clip(logp.bfloat16(), logp_old.bfloat16(), advantages.bfloat16(), mask)
        short.item()
        return short

    report = check_loss(loss, rows=("mask", "unbiased_on_policy"))
    assert "computes in bfloat16" in report.notes[0]
    assert report.row("unbiased_on_policy").holds is True, report.row("unbiased_on_policy")


@more
def test_a_compiled_function_is_checked_as_it_was_given():
    compiled = torch.compile(token_clip, backend="eager")
    report = check_loss(compiled, rows=("mask",))
    assert report.row("mask").holds and any("compiled" in said for said in report.conventions)


def test_ctrl_c_leaves_the_rows_that_are_done():
    def loss(logp, logp_old, advantages, mask):
        if logp.shape[1] > 6:
            raise KeyboardInterrupt
        return token_clip(logp, logp_old, advantages, mask)

    report = check_loss(loss, rows=("order", "padding", "finite"))
    assert report.interrupted and [row.name for row in report.rows] == ["order"]
    assert report.verdict.startswith("interrupted after order")


def test_assert_loss_names_each_row_that_is_required_and_does_not_hold():
    def loss(logp, logp_old, advantages, mask):
        return -((logp - logp_old).exp() * advantages[:, None]).sum(1).mean()

    with pytest.raises(AssertionError, match=r"(?s)MASK FORGOTTEN.*  mask: FAILS.*multiply every token"):
        assert_loss(loss, requires=["order", "mask"])
    assert assert_loss(token_clip, requires=["mask"]).verdict == "1 of 1 rows hold"
    with pytest.raises(ValueError, match="unknown row 'masks'"):
        assert_loss(token_clip, requires=["masks"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scope": "all"}, "scope = 'all'"),
        ({"prompts": 2}, "scope='batch'"),
        ({"scope": "batch", "prompts": 9}, "from 1 to 3"),
        ({"rows": ["masks"]}, "unknown row 'masks'"),
        ({"fail_above": "5 degrees"}, "an angle such as 5deg"),
        ({"fail_above": "100deg"}, "an angle such as 5deg"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        check_loss(token_clip, **options)


@pytest.mark.parametrize("given", [3, None, dict, "grpoo", lambda: 0.0, lambda logp, mask: logp])
def test_what_is_no_loss_is_refused(given):
    with pytest.raises(ValueError):
        check_loss(given)
