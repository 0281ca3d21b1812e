"""`ticgrpo check`: exit codes, forms of output, and what a user's file may do."""

import json

import pytest

from ticgrpo_theory.cli.main import main

OWN = """
print("hello from the file")


def right(logp, logp_old, advantages, mask):
    print("called")
    r = (logp - logp_old).masked_fill(~mask, 0.0).exp()
    return -(r * advantages[:, None] * mask).sum(1).mean()


def forgets(logp, logp_old, advantages, mask, factor):
    return -factor * ((logp - logp_old).exp() * advantages[:, None]).sum(1).mean()


def nothing(logp, logp_old, advantages, mask):
    return None


def made(scale=2.0):
    def objective(batch):
        A = batch.reward - batch.reward.mean()
        return scale * (A[:, None] * batch.logp * batch.mask).sum()

    return objective
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


def test_json_is_never_broken_by_what_a_loss_prints(capsys):
    assert main(["check", "own.py:right", "own.py:made", "--rows", "mask,microbatch", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1 and [r["form"] for r in found["reports"]] == ["loss", "objective"]
    assert all(row["holds"] for report in found["reports"] for row in report["rows"])
    assert found["reports"][0]["rows"][0]["command"] == "ticgrpo check own.py:right --rows mask"


def test_a_required_row_that_fails_ends_in_3_and_one_that_was_left_out_is_named(capsys):
    forgets = ["own.py:forgets", "--arg", "factor=2.0", "--rows", "mask,order"]
    assert main(["check", *forgets]) == 0
    assert "MASK FORGOTTEN" in capsys.readouterr().out
    assert main(["check", *forgets, "--require", "order"]) == 0
    assert main(["audit", *forgets, "--require", "order,mask"]) == 3
    assert "required: forgets: mask: FAILS" in capsys.readouterr().err
    assert main(["check", *forgets, "--require", "padding"]) == 1
    assert "unknown row 'padding'" in capsys.readouterr().err


def test_a_row_without_an_answer_does_not_meet_a_requirement(capsys):
    assert main(["check", "own.py:right", "--rows", "sampler", "--require", "sampler"]) == 3
    assert "logp_sampler" in capsys.readouterr().err


def test_what_is_no_loss_ends_in_1(capsys):
    assert main(["check", "own.py:nothing", "--rows", "mask"]) == 1
    assert "NO ANSWER" in capsys.readouterr().out
    for spec, words in (
        ("own.py:forgets", "needs factor"), ("grppo", "nearest names"), ("own.py", "names no loss in it"),
        ("polgrad:ppo", "no adapter for polgrad"),
    ):  # fmt: skip
        assert main(["check", spec]) == 1
        assert words in capsys.readouterr().err
    assert main(["check"]) in (1, 2)


def test_pages_are_printed_and_written(capsys, tmp_path):
    assert (
        main(
            [
                "check",
                "rloo",
                "gspo",
                "--rows",
                "mask,unbiased_on_policy",
                "--markdown",
                "--html",
                "page.html",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert out.startswith("| row | rloo | gspo |") and "**fails** 13.9 deg" in out
    assert "<h2>gspo</h2>" in (tmp_path / "page.html").read_text()
