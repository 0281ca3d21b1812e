"""`ticgrpo` where groups are too many: it draws them, says so first, and every number has its half width."""

import pytest
import torch

from tests.commands.cli_callables import OWN
from tests.commands.typed_commands import answer, refusal, run
from tests.properties.tolerances import EXACT
from ticgrpo_theory.cli.answers import means
from ticgrpo_theory.cli.answers.means import cosine_half_width
from ticgrpo_theory.exact import expected_gradient, gradient_moments, policy_gradient
from ticgrpo_theory.exact.expectation import choose_method
from ticgrpo_theory.exact.groups.every_group import NotAffordable
from ticgrpo_theory.worlds import WORLDS

CENTRED = ("--estimator", "own.py:centred")
QUICK = ("--tolerance", "0.1")


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


def centred(batch):
    A = batch.reward - batch.reward.mean()
    return (A[:, None] * batch.logp * batch.mask).sum() / len(A)


def only(found):
    (entry,) = found["estimators"]
    return entry


def test_a_callable_with_all_defaults_is_sampled_and_the_first_line_says_so(capsys):
    assert run("gradient", *CENTRED, *QUICK) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert "own.py:centred is SAMPLED: ||E g|| = " in first and " groups" in first and "+-" in first
    assert "No exact method is affordable" in first
    assert any("cosine" in line and "+-" in line for line in rest)


def test_the_interval_holds_the_expectation_and_every_number_has_its_half_width(capsys):
    entry = only(answer(capsys, "gradient", *CENTRED, *QUICK))
    mdp, old = start("right-answer")
    # At theta_old a centred reward gives 1 - 1/G of the gradient.
    exact = 7 / 8 * policy_gradient(mdp, old)
    gap = (tensor(entry["gradient"]) - exact).abs()
    assert entry["method"] == "sampled" and entry["groups"] > 1000
    assert bool((gap <= tensor(entry["half_width"])).all())
    assert float(gap.norm()) <= entry["norm_half_width"] <= 0.1 * entry["norm"]
    assert abs(entry["scale"] - 7 / 8) <= entry["scale_half_width"] < 0.2
    assert abs(entry["cosine"] - 1) <= entry["cosine_half_width"] < 0.02
    assert abs(entry["bias"] - float(exact.norm()) / 7) <= entry["bias_half_width"]
    # c of the exact mean times grad J is that mean: the distance is 0, within what is said of it.
    assert entry["bias_scaled"] <= entry["bias_scaled_half_width"]
    # Partner: the interval is no blanket. Twice the expectation is outside.
    assert float((tensor(entry["gradient"]) - 2 * exact).norm()) > entry["norm_half_width"]


def test_the_library_never_samples_by_itself():
    mdp, old = start("right-answer")
    with pytest.raises(NotAffordable, match="method='sampled'"):
        expected_gradient(mdp, old, old, centred, 8)
    with pytest.raises(NotAffordable):
        choose_method(mdp, old, old, centred, 8)
    assert issubclass(NotAffordable, ValueError)


def test_the_command_samples_for_no_other_reason(capsys):
    """A method by name, an exact sum that is affordable, an infinite group: none is sampled."""
    assert "more than limit" in refusal(capsys, "gradient", *CENTRED, "--method", "groups")
    few = only(answer(capsys, "gradient", *CENTRED, "--group-size", "2"))
    assert few["method"] == "groups" and few["half_width"] is None and few["norm_half_width"] == 0
    assert "infinite group" in refusal(capsys, "gradient", *CENTRED, "--group-size", "inf")
    named = ("--method", "dynamic_programming")
    assert "declared ratio" in refusal(capsys, "gradient", "--world", "xor", *CENTRED, *named)


def test_order_that_matters_in_too_many_groups_is_sampled_too(capsys):
    """The multisets are few, the ordered groups are not, and the order is found to matter on the way."""
    options = ("--world", "right-answer", "--estimator", "own.py:against_first", "--group-size", "4")
    entry = only(answer(capsys, "gradient", *options, "--tolerance", "0.3"))
    assert entry["method"] == "sampled" and "their order matters" in entry["notes"][0]


def test_a_seed_is_a_sample_and_a_tolerance_is_a_size(capsys):
    options = ("gradient", "--world", "xor", *CENTRED, "--group-size", "3", "--method", "sampled", *QUICK)
    one, again, other = (only(answer(capsys, *options, "--seed", seed)) for seed in ("1", "1", "2"))
    assert one["gradient"] == again["gradient"] != other["gradient"]
    finer = only(answer(capsys, *options, "--seed", "1", "--tolerance", "0.05"))
    assert finer["groups"] > one["groups"] and finer["norm_half_width"] <= 0.05 * finer["norm"]
    coarse = only(answer(capsys, *options, "--limit", "100"))
    assert coarse["groups"] == 100 and "wider than the tolerance of 0.1" in coarse["notes"][0]


def test_moments_of_a_sample_hold_those_of_every_group(capsys):
    mdp, old = start("xor")
    theta = old + 0.5 * policy_gradient(mdp, old)
    torch.save(theta, "theta.pt")
    options = ("--world", "xor", *CENTRED, "--group-size", "3", "--theta", "theta.pt")
    entry = only(answer(capsys, "moments", *options, "--method", "sampled", *QUICK))
    exact = gradient_moments(mdp, theta, old, centred, 3)
    for name in ("second_moment", "variance", "mse", "scale", "mse_scaled"):
        assert abs(entry[name] - getattr(exact, name)) <= entry[f"{name}_half_width"] < 0.5 * entry[name], (
            name
        )
    assert entry["ratio_second_moment"] == exact.ratio_second_moment
    assert abs(entry["mean_norm"] - float(exact.mean.norm())) <= entry["mean_norm_half_width"]


def test_moments_are_sampled_where_groups_are_too_many(capsys):
    entry = only(answer(capsys, "moments", *CENTRED, *QUICK))
    assert (
        entry["method"] == "sampled" and "SAMPLED" in entry["notes"][0] and entry["variance_half_width"] > 0
    )


def test_a_larger_limit_reaches_the_scale_of_the_moments(capsys):
    """The groups of c are listed under the limit that was given, not under the default one."""
    options = ("moments", "--world", "xor", *CENTRED, "--group-size", "4", "--symmetric", "no")
    assert "more than limit = 10" in refusal(capsys, *options, "--limit", "10", "--method", "groups")
    assert only(answer(capsys, *options, "--limit", "256"))["method"] == "groups"


def test_bias_of_a_sample_says_so_in_every_row(capsys):
    options = ("bias", "--world", "xor", *CENTRED, "--group-size", "3", "--inner-steps", "1")
    entry = only(answer(capsys, *options, "--method", "sampled", *QUICK))
    exact = only(answer(capsys, *options))
    assert entry["method"] == "sampled" and "same seed" in entry["notes"][1]
    for row, right in zip(entry["rows"], exact["rows"], strict=True):
        for name in ("bias_current", "bias_old", "bias_current_scaled", "cosine_old"):
            assert row[f"{name}_half_width"] > 0 == right[f"{name}_half_width"]
    row, right = entry["rows"][0], exact["rows"][0]
    for name in ("bias_current", "bias_current_scaled"):
        assert abs(row[name] - right[name]) <= row[f"{name}_half_width"]
    assert "by every group" in refusal_of_steps(capsys, options)


def refusal_of_steps(capsys, options):
    return refusal(capsys, *options, "--steps", "reused", "--method", "sampled").replace("is over", "by")


def test_kl_exact_is_not_sampled(capsys):
    """It is no function of the tokens that are drawn: a sample would leave it out without a word."""
    options = ("--world", "xor", "--estimator", "own.py:penalised", "--group-size", "2")
    with open("own.py", "a", encoding="utf-8") as file:
        file.write(
            "\n\nimport dataclasses\n\nfrom ticgrpo_theory.estimators import ESTIMATORS\n"
            "from ticgrpo_theory.estimators.penalties import kl_exact\n\n"
            "penalised = dataclasses.replace(ESTIMATORS['grpo'], penalty=kl_exact(0.5))\n"
        )
    assert "kl_exact is no function" in refusal(capsys, "gradient", *options, "--method", "sampled")
    assert run("gradient", *options) == 0


def test_rewards_that_the_first_groups_never_show_are_drawn_for():
    """One response in thousands has a reward: a pilot without it is no proof that E[g_hat] is 0."""
    from ticgrpo_theory.mdp import TokenMDP

    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, 1.0])
    theta = tensor([[9.0, 0.0]])
    found = expected_gradient(mdp, theta, theta, centred, 2, "sampled", tolerance=0.5, explain=True)
    exact = 0.5 * policy_gradient(mdp, theta)
    assert float(found.value.norm()) > 0 and found.groups > 512
    assert float((found.value - exact).norm()) <= found.norm_half_width


def test_long_lists_are_announced_on_stderr_before_they_begin(capsys, monkeypatch):
    options = ("gradient", "--world", "right-answer", *CENTRED, "--group-size", "3")
    monkeypatch.setattr(means, "FEW", 10)
    assert run(*options, "--symmetric", "yes") == 0
    assert not capsys.readouterr().err
    monkeypatch.setattr(means, "LONG", 1e-6)
    assert run(*options, "--symmetric", "yes") == 0
    said = capsys.readouterr().err
    assert said.startswith("own.py:centred: listing ") and " groups, about " in said and said.count("\n") == 1
    # Partner: what declares its parts is not announced.
    assert run("gradient", "--world", "xor", "--method", "groups", "--group-size", "3") == 0
    assert not capsys.readouterr().err


def test_half_widths_of_cosines():
    assert cosine_half_width(1.0, 0.0, 1.0) == 0.0 and cosine_half_width(None, 1.0, 0.0) == 0.0
    # A mean as short as its half width may point anywhere.
    assert cosine_half_width(1.0, 1.0, 1.0) == 2.0
    # At a right angle a turn of asin(0.6) changes the cosine by 0.6.
    assert abs(cosine_half_width(0.0, 0.6, 1.0) - 0.6) < EXACT["atol"]
