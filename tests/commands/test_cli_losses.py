"""Objectives and losses of a user's own by the command line: what is assumed, what leads down, what fails."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.commands.cli_callables import OWN
from tests.commands.typed_commands import answer, refusal, run
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators.advantages import centred, standardised
from ticgrpo_theory.estimators.catalogue import grpo
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.exact.groups import every_group
from ticgrpo_theory.inputs.tracebacks import PACKAGE
from ticgrpo_theory.worlds import WORLDS

XOR = ("--world", "xor", "--group-size", "2")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    return tmp_path


def start(name):
    mdp = WORLDS[name].build()
    return mdp, WORLDS[name].theta_old(mdp)


def tensor(table):
    return torch.tensor(table, dtype=torch.float64)


def entry_of(capsys, *options):
    (entry,) = answer(capsys, "gradient", *options)["estimators"]
    return entry


def test_micro_batches_of_two_on_unequal_lengths_point_uphill(capsys):
    """Their order matters: taken as a multiset this group would point downhill."""
    entry = entry_of(capsys, "--world", "length-trap", "--group-size", "4", "--estimator", "own.py:two_steps")
    assert abs(entry["cosine"] - 1) < 1e-9 and abs(entry["norm"] - 0.0070488929) < 1e-9
    assert not entry["downhill"] and "listed in every order" in entry["notes"][0]


def test_what_was_checked_or_assumed_is_said(capsys, monkeypatch):
    # Where vmap makes a group cheap, so few ordered groups would be listed without a check.
    monkeypatch.setattr(every_group, "TOGETHER", 0)
    many = ("--world", "right-answer", "--group-size", "3", "--estimator", "own.py:centred")
    entry = entry_of(capsys, *many)
    assert f"order checked on {entry['groups']:,} groups" in entry["notes"][0] and entry["groups"] > 1000
    assert "order assumed not to matter" in entry_of(capsys, *many, "--symmetric", "yes")["notes"][0]
    ordered = entry_of(capsys, *many, "--symmetric", "no")
    assert ordered["groups"] > entry["groups"] and "in every order" in ordered["notes"][0]
    torch.testing.assert_close(tensor(ordered["gradient"]), tensor(entry["gradient"]), **EXACT)
    own = (*XOR, "--estimator", "own.py:undeclared")
    named = entry_of(capsys, *own, "--method", "enumeration")["notes"][0]
    assert "weights of single responses assumed, checked on" in named
    assert not entry_of(capsys, *XOR, "--estimator", "grpo")["notes"]
    (entry,) = answer(capsys, "moments", *many)["estimators"]
    assert "order checked on" in entry["notes"][0]


def test_a_loss_of_four_arguments_is_minimised_whatever_their_order(capsys):
    mdp, old = start("xor")
    options = (*XOR, "--estimator", "own.py:loss", "--set", "eps=0.1", "--inner-steps", "3")
    entry = entry_of(capsys, *options, "--learning-rate", "0.5")
    theta = old
    for _ in range(3):
        theta = theta + 0.5 * expected_gradient(mdp, theta, old, grpo(0.1, 0.1), 2)
    right = expected_gradient(mdp, theta, old, grpo(0.1, 0.1), 2)
    torch.testing.assert_close(tensor(entry["gradient"]), right, **EXACT)
    assert "advantages standardised(delta=1e-06, ddof=0), by default" in entry["notes"][0]
    assert entry["estimator"] == "own.py:loss(eps=0.1)"
    # Partner: the parameter acts.
    wide = entry_of(capsys, *options[:-2], "--theta", saved(theta))
    assert (tensor(wide["gradient"]) - right).abs().max() < VISIBLE
    other = expected_gradient(mdp, theta, old, grpo(0.2, 0.2), 2)
    assert (other - right).abs().max() > VISIBLE / 100


def saved(theta):
    np.save("theta.npy", theta.numpy())
    return "theta.npy"


@pytest.mark.parametrize(
    ("written", "same"),
    [("centred", centred()), ("standardised(delta=0.5)", standardised(delta=0.5)), ("own.py:positive", None)],
)
def test_an_advantage_is_named_with_parameters_or_is_a_function_of_the_rewards(capsys, written, same):
    from ticgrpo_theory.estimators.losses import from_loss

    def loss(logp, logp_old, advantages, mask):
        x = (logp - logp_old).exp() * advantages[:, None] * mask
        return -(x.sum(dim=1) / mask.sum(dim=1)).mean()

    def positive(reward):
        return (reward - reward.mean()).clamp(min=0.0)

    mdp, old = start("xor")
    entry = entry_of(capsys, *XOR, "--estimator", "own.py:loss", "--advantage", written)
    right = expected_gradient(mdp, old, old, from_loss(loss, same or positive), 2)
    torch.testing.assert_close(tensor(entry["gradient"]), right, **EXACT)
    assert "with advantages" in entry["notes"][0] and "default" not in entry["notes"][0]
    # Partner: the default is another number.
    default = entry_of(capsys, *XOR, "--estimator", "own.py:loss")
    assert (tensor(default["gradient"]) - right).abs().max() > VISIBLE / 10


def test_what_points_downhill_is_said_in_the_first_line_with_the_way_out(capsys):
    for command in ("gradient", "moments", "bias"):
        assert run(command, *XOR, "--estimator", "own.py:centred", "own.py:downhill") == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert first.startswith("own.py:downhill points DOWNHILL") and "is -1;" in first
        assert "negate it" in first and "loss(logp, logp_old, advantages, mask)" in first
        found = answer(capsys, command, *XOR, "--estimator", "own.py:centred", "own.py:downhill")
        assert [entry["downhill"] for entry in found["estimators"]] == [False, True]


def test_downhill_is_asked_at_theta_old_wherever_theta_is(capsys):
    mdp, old = start("xor")
    far = old + 30 * policy_gradient(mdp, old)
    entry = entry_of(capsys, *XOR, "--estimator", "own.py:downhill", "--theta", saved(far))
    assert entry["downhill"] and "at theta = theta_old" in entry["notes"][0]
    # GRPO on responses of unequal length leads downhill as well; no one can negate it.
    entry = entry_of(capsys, "--world", "length-trap", "--group-size", "4", "--estimator", "grpo")
    assert entry["downhill"] is (entry["cosine"] < 0)


def test_a_parameter_without_a_default_is_set(capsys):
    one = entry_of(capsys, *XOR, "--estimator", "own.py:centred")
    three = entry_of(capsys, *XOR, "--estimator", "own.py:times", "--set", "factor=3")
    torch.testing.assert_close(tensor(three["gradient"]), 3 * tensor(one["gradient"]), **EXACT)


def test_a_reference_policy_reaches_objectives(capsys):
    mdp, old = start("xor")
    reference = old + tensor([[0.5, 0.0]])
    np.save("ref.npy", reference.numpy())

    def to_reference(batch):
        A = batch.reward - batch.reward.mean()
        gap = (batch.logp - batch.logp_ref).where(batch.mask, 0.0)
        value = (A[:, None] * batch.logp * batch.mask).sum() - 0.5 * gap.square().sum()
        return value / len(A)

    own = (*XOR, "--estimator", "own.py:to_reference")
    right = expected_gradient(mdp, old, old, to_reference, 2, theta_ref=reference)
    found = tensor(entry_of(capsys, *own, "--theta-ref", "ref.npy")["gradient"])
    torch.testing.assert_close(found, right, **EXACT)
    # Without a file the reference is theta_old, where the penalty has no gradient.
    plain = tensor(entry_of(capsys, *XOR, "--estimator", "own.py:centred")["gradient"])
    torch.testing.assert_close(tensor(entry_of(capsys, *own)["gradient"]), plain, **EXACT)
    assert (plain - right).abs().max() > VISIBLE / 10
    assert "reads a reference policy" in refusal(capsys, "gradient", *XOR, "--theta-ref", "ref.npy")


def test_theta_is_read_from_every_kind_of_file(capsys, folder):
    mdp, old = start("xor")
    theta = old + tensor([[0.25, -0.5]])
    rows = theta.tolist()
    np.save("t.npy", theta.numpy())
    torch.save(theta, "t.pt")
    (folder / "t.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "t.yaml").write_text(str(rows), encoding="utf-8")
    np.savetxt("t.csv", theta.numpy(), delimiter=",", fmt="%.17g")
    right = expected_gradient(mdp, theta, old, "grpo", 2)
    for kind in ("npy", "pt", "json", "yaml", "csv"):
        entry = entry_of(capsys, *XOR, "--estimator", "grpo", "--theta", f"t.{kind}")
        assert tensor(entry["gradient"]).equal(right) and entry["drift"] == float((theta - old).norm())
    assert not right.equal(expected_gradient(mdp, old, old, "grpo", 2))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.json", "[[0, 1, 2]]", "--theta t.json has shape (1, 3); this world needs (S, V) = (1, 2)"),
        ("t.json", "[[0, NaN]]", "t.json"),
        ("t.yaml", "[[0, .inf]]", "--theta t.yaml[0, 1] = inf"),
        ("t.csv", "0,nan\n", "--theta t.csv[0, 1] = nan: logits must be finite"),
        ("t.csv", "0,x\n", "--theta t.csv cannot be read (ValueError"),
        ("t.json", "[[0,", "--theta t.json cannot be read (JSONDecodeError"),
        ("t.npy", "nothing", "--theta t.npy cannot be read"),
        ("t.pt", "nothing", "--theta t.pt cannot be read"),
        ("t.txt", "0 1", "--theta t.txt is of an unknown kind '.txt'; give logits [S, V] = [1, 2] as one of"),
        ("absent.npy", None, "--theta absent.npy cannot be read (FileNotFoundError"),
    ],
)
@pytest.mark.usefixtures("unchecked_signatures")
def test_a_file_that_is_no_policy_is_refused(capsys, folder, name, text, message):
    if text is not None:
        (folder / name).write_text(text, encoding="utf-8")
    assert message in refusal(capsys, "gradient", *XOR, "--theta", name)


def test_a_file_of_weights_runs_nothing_and_holds_one_table(capsys):
    torch.save({"theta": torch.zeros(1, 2)}, "t.pt")
    assert "holds dict, not a tensor" in refusal(capsys, "gradient", *XOR, "--theta", "t.pt")


def test_theta_and_steps_exclude_each_other(capsys):
    np.save("t.npy", np.zeros((1, 2)))
    both = ("gradient", *XOR, "--theta", "t.npy", "--inner-steps", "1")
    assert "give one of them (--inner-steps 0 takes no step)" in refusal(capsys, *both)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("own.py:broken",), "raised KeyError: 'no such thing' ({own}, line {line}, in broken)"),
        (("own.py:made_badly",), "own.py:made_badly raised ZeroDivisionError: division by zero ({own}, line"),
        (("own.py:own_estimator",), "RuntimeError: a ratio of ones own ({own}, line"),
        (("own.py:absent",), "own.py:absent cannot be imported (AttributeError"),
        (("at_import.py:x",), "at_import.py:x cannot be imported (ZeroDivisionError: division by zero ("),
        (("leaves.py:x",), "leaves.py:x cannot be imported (SystemExit"),
        (
            ("own.py:loss", "--advantage", "own.py:divided"),
            "ZeroDivisionError: division by zero ({own}, line",
        ),
        (("own.py:loss", "--advantage", "own.py:listed"), "the advantage listed returned [0.0], which is no"),
        (("own.py:loss", "--advantage", "centered"), "has no advantage 'centered'; the nearest is 'centred'"),
        (
            ("own.py:loss", "--advantage", "centred(delta=1)"),
            "the advantage centred has no parameter 'delta'",
        ),
        (("own.py:loss", "--advantage", "known_moments"), "needs mean, std: write 'known_moments(mean=...,"),
        (("own.py:loss", "--advantage", "standardised(1)"), "write a name, or name(field=number, ...)"),
        (("own.py:loss", "--advantage", "own.py:torch"), "is module; it must be a function of the rewards"),
        (("own.py:centred", "--advantage", "centred"), "none of own.py:centred is a loss of (logp, logp_old"),
        (("own.py:times",), None),
    ],
)
@pytest.mark.usefixtures("unchecked_signatures")
def test_a_users_mistake_is_one_line_with_its_place(capsys, folder, options, message):
    (folder / "at_import.py").write_text("x = 1\ny = 1 / 0\n", encoding="utf-8")
    (folder / "leaves.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    said = refusal(capsys, "gradient", *XOR, "--estimator", *options)
    line = next(n for n, text in enumerate(OWN.splitlines(), 1) if "no such thing" in text)
    assert (message or "own.py:times needs batch, factor").format(own=folder / "own.py", line=line) in said
    if "at_import" in options[0]:
        assert f"{folder / 'at_import.py'}, line 2" in said


def test_a_fault_of_ones_own_code_is_not_hidden(monkeypatch):
    """An exception without a frame in a user's file is this package's own, and keeps its traceback."""

    made: dict[str, Any] = {}
    exec(compile("def faulty(*args): return [][0]", f"{PACKAGE}request.py", "exec"), made)
    monkeypatch.setattr("ticgrpo_theory.cli.request.world_of", made["faulty"])
    with pytest.raises(IndexError):
        run("gradient")


def test_bias_counts_no_clipped_tokens_where_a_part_declares_nothing(capsys):
    (entry,) = answer(capsys, "bias", *XOR, "--estimator", "own.py:undeclared")["estimators"]
    assert [row["clip_fraction"] for row in entry["rows"]] == [None] * 9
    (entry,) = answer(capsys, "bias", *XOR, "--estimator", "grpo")["estimators"]
    assert entry["rows"][0]["clip_fraction"] == 0.0
