"""--sampler and --theta-sampler: who draws the responses, what an answer says of it, and what is refused."""

import math

import numpy as np
import pytest
import torch

from tests.commands.typed_commands import answer, make_own, refusal, run
from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.exact import expected_gradient, gradient_moments, policy_gradient
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.exact.reuse.followed_groups import reuse_bias
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.worlds import WORLDS
from ticgrpo_theory.worlds.samplers import lost_mass, parse_sampler

ROWS = ("--world", "few-values", "--estimator", "grpo", "--group-size", "3")
TOP = "top_p=0.6,temperature=0.9"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(make_own(tmp_path))
    return tmp_path


@pytest.fixture
def policies():
    """The world, theta_old and mu."""
    mdp = WORLDS["few-values"].build()
    old = WORLDS["few-values"].theta_old(mdp)
    return mdp, old, parse_sampler(TOP)(old)


def entry_of(capsys, *args: str) -> dict:
    (entry,) = answer(capsys, *args)["estimators"]
    return entry


def tensor(table) -> torch.Tensor:
    return torch.tensor(table, dtype=torch.float64)


def test_a_gradient_is_that_of_the_library_with_this_sampler(capsys, policies):
    mdp, old, mu = policies
    found = answer(capsys, "gradient", *ROWS, "--sampler", TOP)
    (entry,) = found["estimators"]
    right = expected_gradient(mdp, old, old, ESTIMATORS["grpo"], 3, theta_sampler=mu)
    torch.testing.assert_close(tensor(entry["gradient"]), right, **SAME_BITS)
    torch.testing.assert_close(tensor(entry["policy_gradient"]), policy_gradient(mdp, old), **SAME_BITS)
    assert found["sampler"] == "temperature=0.9,top_p=0.6"
    without = entry_of(capsys, "gradient", *ROWS)
    assert float((tensor(without["gradient"]) - right).norm()) > VISIBLE / 10
    assert without["lost_mass"] == 0 and "sampler" not in answer(capsys, "gradient", *ROWS)


def test_a_file_says_the_same_as_the_sampler_that_made_it(capsys, folder, policies):
    np.save(folder / "mu.npy", policies[2].numpy())
    of_file = answer(capsys, "gradient", *ROWS, "--theta-sampler", "mu.npy", "--inner-steps", "2")
    of_name = answer(capsys, "gradient", *ROWS, "--sampler", TOP, "--inner-steps", "2")
    assert of_file.pop("sampler") == "mu.npy" and of_name.pop("sampler") == "temperature=0.9,top_p=0.6"
    (one,), (other,) = of_file["estimators"], of_name["estimators"]
    said = [note.replace("temperature=0.9,top_p=0.6", "mu.npy") for note in other["notes"]]
    assert one == {**other, "notes": said}


def test_the_lost_mass_is_said_first_and_is_that_of_whole_responses(capsys, policies):
    mdp, old, mu = policies
    pi, drawn = torch.softmax(old, dim=-1), mu > -math.inf
    places = {prefix: i for i, prefix in enumerate(mdp.prefixes)}
    kept = 0.0
    for y in mdp.responses:
        rows = [places[y[:t]] for t in range(3)]
        inside = all(bool(drawn[row, token]) for row, token in zip(rows, y, strict=True))
        kept += inside * math.prod(float(pi[row, token]) for row, token in zip(rows, y, strict=True))
    entry = entry_of(capsys, "gradient", *ROWS, "--sampler", TOP)
    torch.testing.assert_close(entry["lost_mass"], 1 - kept, **EXACT)
    assert entry["lost_mass"] > float(lost_mass(old, mu).max()) > VISIBLE
    assert entry["notes"][0].startswith(
        f"grpo: temperature=0.9,top_p=0.6 never draws responses that have {1 - kept:.4g} of the probability"
    )
    assert run("gradient", *ROWS, "--sampler", TOP) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("grpo: temperature=0.9,top_p=0.6 never draws responses")
    assert "theta = theta_old; drawn by temperature=0.9,top_p=0.6" in printed


def test_a_mask_of_theta_old_is_said_too(capsys, folder):
    (folder / "masked.yaml").write_text(
        "{kind: prefix_tree, vocab_size: 2, horizon: 1, reward: [0, 1], theta: [[0, -.inf]]}"
    )
    (folder / "theta.json").write_text("[[0, 0]]")
    own = ("--world", "masked.yaml", "--estimator", "grpo", "--theta", "theta.json")
    entry = entry_of(capsys, "gradient", *own)
    assert entry["lost_mass"] == 0.5 and entry["notes"][0].startswith("grpo: theta_old never draws responses")


def test_moments_are_those_of_the_library_with_this_sampler(capsys, policies):
    mdp, old, mu = policies
    entry = entry_of(capsys, "moments", *ROWS, "--sampler", TOP)
    right = gradient_moments(mdp, old, old, ESTIMATORS["grpo"], 3, theta_sampler=mu)
    torch.testing.assert_close(entry["variance"], right.variance, **EXACT)
    torch.testing.assert_close(entry["mse"], right.mse, **EXACT)
    assert entry["lost_mass"] > VISIBLE and "never draws" in entry["notes"][0]


def test_bias_has_the_lost_mass_of_every_step(capsys, policies):
    mdp, old, mu = policies
    entry = entry_of(capsys, "bias", *ROWS, "--sampler", TOP, "--inner-steps", "2", "--learning-rate", "5")
    first = expected_gradient(mdp, old, old, ESTIMATORS["grpo"], 3, theta_sampler=mu)
    drift = [row["drift"] for row in entry["rows"]]
    torch.testing.assert_close(drift[1], float((5 * first).norm()), **EXACT)
    assert len({row["lost_mass"] for row in entry["rows"]}) == 3
    path = [old, old + 5 * first]
    clipped = clip_fractions(mdp, path, old, ESTIMATORS["grpo"], 3, theta_sampler=mu)
    assert [row["clip_fraction"] for row in entry["rows"]][:2] == clipped and clipped[1] > VISIBLE
    assert clipped != clip_fractions(mdp, path, old, ESTIMATORS["grpo"], 3)
    assert run("bias", *ROWS, "--sampler", TOP, "--inner-steps", "1") == 0
    assert "lost" in capsys.readouterr().out
    assert run("bias", *ROWS, "--sampler", "temperature=0.9", "--inner-steps", "1") == 0
    printed = capsys.readouterr().out
    assert "lost" not in printed and "drawn by temperature=0.9" in printed


def test_groups_that_are_sampled_are_those_of_the_sampler(capsys, policies):
    mdp, old, mu = policies
    how = ("--method", "sampled", "--limit", "20000", "--tolerance", "1e-9")
    entry = entry_of(capsys, "gradient", *ROWS, "--sampler", TOP, *how)
    right = expected_gradient(mdp, old, old, ESTIMATORS["grpo"], 3, theta_sampler=mu)
    assert float((tensor(entry["gradient"]) - right).norm()) <= entry["norm_half_width"] < VISIBLE
    assert any("never draws" in note for note in entry["notes"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--sampler", "topp=0.9"),
            "sampler = 'topp=0.9': unknown name 'topp'; write name=value",
        ),
        (("--sampler", "top_p=9"), "top_p = 9 must be > 0 and <= 1"),
        (
            ("--sampler", "top_p=0.9", "--theta-sampler", "mu.npy"),
            "--sampler top_p=0.9 and --theta-sampler mu.npy",
        ),
        (("--theta-sampler", "none.npy"), "--theta-sampler none.npy cannot be read (FileNotFoundError"),
        (
            ("--theta-sampler", "small.json"),
            "--theta-sampler small.json has shape (1, 3); this world needs (S, V)",
        ),
        (
            ("--theta-sampler", "mu.txt"),
            "--theta-sampler mu.txt is of an unknown kind '.txt'; give logits [S, V]",
        ),
    ],
)
def test_what_says_nothing_of_who_draws_is_refused_in_one_line(capsys, folder, options, says):
    (folder / "small.json").write_text("[[0, 0, 0]]")
    for command in ("gradient", "bias", "moments"):
        assert says in refusal(capsys, command, *ROWS, *options)


def test_a_token_that_is_drawn_and_forbidden_by_theta_old_is_refused(capsys, folder):
    (folder / "masked.yaml").write_text(
        "{kind: prefix_tree, vocab_size: 2, horizon: 1, reward: [0, 1], theta: [[0, -.inf]]}"
    )
    (folder / "mu.json").write_text("[[0, 0]]")
    said = refusal(capsys, "gradient", "--world", "masked.yaml", "--theta-sampler", "mu.json")
    assert (
        "row 0, token 1 is drawn by theta_sampler (logit 0) and has probability zero under theta_old" in said
    )


@pytest.mark.parametrize(("steps", "K"), [("reused", 2), ("disjoint", 1)])
def test_groups_that_are_followed_are_those_of_the_sampler(capsys, steps, K):
    mdp = WORLDS["bandit"].build()
    old = WORLDS["bandit"].theta_old(mdp)
    mu = parse_sampler("top_k=2")(old)
    own = ("--world", "bandit", "--estimator", "grpo", "--group-size", "2", "--steps", steps)
    own += ("--inner-steps", str(K), "--learning-rate", "0.5")
    entry = entry_of(capsys, "bias", *own, "--sampler", "top_k=2")
    how = {"inner_steps": K, "learning_rate": 0.5, "scale": entry["scale"], "batches": steps}
    right = reuse_bias(mdp, old, ESTIMATORS["grpo"], 2, **how, theta_sampler=mu)
    of_old = reuse_bias(mdp, old, ESTIMATORS["grpo"], 2, **how)
    found = torch.tensor([row["expected_return"] for row in entry["rows"]], dtype=torch.float64)
    torch.testing.assert_close(found, right.expected_return, **EXACT)
    mse = torch.tensor([row["mse_scaled"] for row in entry["rows"]], dtype=torch.float64)
    torch.testing.assert_close(mse, right.mse, **EXACT)
    assert float((mse - of_old.mse).abs().min()) > VISIBLE / 10
    lost = float(torch.softmax(old, dim=-1).where(mu == -math.inf, 0.0).sum())
    assert entry["notes"] == [
        f"grpo: top_k=2 never draws responses that have {lost:.4g} of the probability under theta_old, where "
        f"the steps begin; what they would add to grad J is missing"
    ]


RUN = ("--world", "few-values", "--estimator", "grpo", "--group-size", "3", "--learning-rate", "0.5")
RUN += ("--inner-steps", "2", "--outer-steps", "4", "--replicates", "3", "--seed", "5")


def test_runs_are_those_of_the_library_with_this_sampler_at_every_outer_step(capsys, policies):
    mdp, old, _ = policies
    sizes = {"group_size": 3, "learning_rate": 0.5, "inner_steps": 2, "outer_steps": 4, "replicates": 3}
    trace = simulate(mdp, old, "grpo", seed=5, sampler=parse_sampler(TOP), **sizes)
    found = answer(capsys, "simulate", *RUN, "--sampler", TOP)
    (entry,) = found["estimators"]
    assert found["sampler"] == "temperature=0.9,top_p=0.6"
    assert [row["expected_return"] for row in entry["rows"]] == interval(trace.expected_return).mean.tolist()
    assert entry["final_return"] == float(interval(trace.final_return).mean) and entry["c1_holds"]
    without = answer(capsys, "simulate", *RUN)
    assert "sampler" not in without and without["estimators"][0]["final_return"] != entry["final_return"]
    assert run("simulate", *RUN, "--sampler", TOP) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "G = 3; drawn by temperature=0.9,top_p=0.6; eta = 0.5" in printed
    lost = entry_of(capsys, "gradient", *ROWS, "--sampler", TOP)["lost_mass"]
    assert found["lost_mass"] == lost > VISIBLE
    assert printed.startswith(
        f"temperature=0.9,top_p=0.6 never draws responses that have {lost:.4g} of the probability under the "
        f"first theta_old; what they would add to grad J is missing"
    )
    assert run("simulate", *RUN, "--sampler", "temperature=0.9") == 0
    assert "never draws" not in capsys.readouterr().out


def test_a_folder_of_another_sampler_and_a_sampler_of_no_name_are_refused(capsys, folder):
    kept = (*RUN, "--folder", "runs")
    assert answer(capsys, "simulate", *kept, "--sampler", TOP) == answer(
        capsys, "simulate", *kept, "--sampler", "temperature=0.9, top_p=0.6"
    )
    said = refusal(capsys, "simulate", *kept, "--sampler", "top_p=0.5")
    assert "is the state of a simulation with other settings" in said
    said = refusal(capsys, "simulate", *RUN, "--sampler", "topp=0.9")
    assert "sampler = 'topp=0.9': unknown name 'topp'; write name=value" in said


@pytest.mark.parametrize("command", ["decompose", "bounds"])
def test_commands_whose_groups_are_those_of_theta_old_have_no_such_option(capsys, command):
    assert run(command, "--sampler", "top_p=0.9") == 2


def test_a_table_of_logits_cannot_follow_a_theta_old_that_moves(capsys):
    assert run("simulate", "--theta-sampler", "mu.npy") == 2
