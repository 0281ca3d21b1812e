"""The numbers that `ticgrpo` prints are those of the library."""

import dataclasses
import json
import math
from typing import Any

import pytest
import torch

from experiments import bias_vs_K
from tests.commands.typed_commands import answer, run
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.bounds import instance_constants, optimum, theorem_1, theorem_2
from ticgrpo_theory.bounds.constants import MEANING
from ticgrpo_theory.cli.output import plain
from ticgrpo_theory.estimators.catalogue import CITATIONS, ESTIMATORS, UNVERIFIED, dapo, grpo
from ticgrpo_theory.exact import (
    decompose,
    expected_gradient,
    expected_return,
    gradient_moments,
    policy_gradient,
    reuse_bias,
)
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS
from ticgrpo_theory.worlds.samplers import VLLM, parse_sampler


def start(name: str) -> tuple[TokenMDP, torch.Tensor]:
    mdp = WORLDS[name].build()
    return mdp, WORLDS[name].theta_old(mdp)


def entries(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["estimator"]: entry for entry in found["estimators"]}


def tensor(table: Any) -> torch.Tensor:
    return torch.tensor(table, dtype=torch.float64)


def test_list_names_every_world_and_estimator_with_reason_formula_and_source(capsys):
    found = answer(capsys, "list")
    assert [world["name"] for world in found["worlds"]] == list(WORLDS)
    assert {entry["name"]: entry["source"] for entry in found["estimators"]} == CITATIONS
    (entry,) = [entry for entry in found["estimators"] if entry["name"] == "tic_grpo"]
    assert entry["parameters"] == {"eps_high": 0.28, "delta": 1e-6}
    assert entry["axes"]["ratio"] == "trajectory" and "score" not in entry["axes"]
    assert found["formulas"]["sequence_mean"] == "1 / (G |s_i|)."
    for each in found["estimators"]:
        assert {choice.partition("(")[0] for choice in each["axes"].values()} <= set(found["formulas"])


def test_list_names_the_samplers_as_they_are_written(capsys):
    listed = answer(capsys, "list")
    assert {entry["name"] for entry in listed["unverified"]} == set(UNVERIFIED)
    found = listed["samplers"]
    assert [entry["name"] for entry in found] == [kind.__name__ for kind in VLLM]
    for entry in found:
        parse_sampler(entry["written"].replace("...", "1"))
        assert entry["formula"] and "Source" not in entry["formula"]


def test_list_shows_what_json_has(capsys):
    assert run("list") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*WORLDS, *ESTIMATORS, *(kind.__name__ for kind in VLLM)])


def test_gradient_is_the_expectation_of_the_library(capsys):
    mdp, old = start("right-answer")
    found = answer(capsys, "gradient", "--group-size", "4")
    assert found["world"] == {"name": "right-answer", "rows": 13, "vocab_size": 3, "horizon": 3, "prompts": 1}
    for name, entry in entries(found).items():
        mean, gradient = expected_gradient(mdp, old, old, name, 4), policy_gradient(mdp, old)
        assert tensor(entry["gradient"]).equal(mean) and tensor(entry["policy_gradient"]).equal(gradient)
        assert entry["norm"] == float(mean.norm()) and entry["bias"] == float((mean - gradient).norm())
        assert entry["expected_return"] == expected_return(mdp, old)
        assert (entry["scale"], entry["scale_kind"]) == known_scale(mdp, old, name, 4)
    assert entries(found)["grpo"]["method"] == "dynamic_programming"
    assert entries(found)["tic_grpo"]["method"] == "enumeration"
    # Partner: another group size is another number.
    other = entries(answer(capsys, "gradient", "--group-size", "2"))["grpo"]
    assert abs(other["norm"] - entries(found)["grpo"]["norm"]) > VISIBLE / 10


def test_gradient_after_steps_along_the_own_mean_with_parameters_set(capsys):
    mdp, old = start("xor")
    options = (
        "--world",
        "xor",
        "--estimator",
        "dapo",
        "--set",
        "eps_high=0.05",
        "delta=0",
        "--group-size",
        "4",
    )
    found = answer(capsys, "gradient", *options, "--inner-steps", "2", "--learning-rate", "0.5")
    estimator, theta = dapo(eps_high=0.05, delta=0.0), old
    for _ in range(2):
        theta = theta + 0.5 * expected_gradient(mdp, theta, old, estimator, 4)
    (entry,) = found["estimators"]
    assert entry["estimator"] == "dapo(eps_high=0.05, delta=0)"
    assert tensor(entry["gradient"]).equal(expected_gradient(mdp, theta, old, estimator, 4))
    assert entry["drift"] == float((theta - old).norm()) > 0
    assert entry["expected_return"] == expected_return(mdp, theta)
    # Partner: the clip that was set acts.
    assert not tensor(entry["gradient"]).equal(expected_gradient(mdp, theta, old, dapo(delta=0.0), 4))


def test_a_method_that_is_named_is_used_and_one_that_is_not_exact_is_refused(capsys):
    options = ("gradient", "--world", "xor", "--group-size", "3", "--estimator")
    automatic = answer(capsys, *options, "grpo")["estimators"][0]
    named = answer(capsys, *options, "grpo", "--method", "groups")["estimators"][0]
    assert (automatic["method"], named["method"]) == ("dynamic_programming", "groups")
    torch.testing.assert_close(tensor(named["gradient"]), tensor(automatic["gradient"]), **EXACT)
    assert run(*options, "tic_grpo", "--method", "dynamic_programming") == 1
    assert "use method='enumeration'" in capsys.readouterr().err


def test_an_infinite_group_is_asked_for_by_name(capsys):
    mdp, old = start("xor")
    found = answer(capsys, "gradient", "--world", "xor", "--group-size", "inf", "--estimator", "grpo")
    assert found["group_size"] == "inf"
    mean = expected_gradient(mdp, old, old, "grpo", math.inf)
    assert tensor(found["estimators"][0]["gradient"]).equal(mean)


def test_bias_has_the_rows_of_the_experiment(capsys):
    options = (
        "--world",
        "xor",
        "--estimator",
        "grpo",
        "tic_grpo",
        "--inner-steps",
        "3",
        "--learning-rate",
        "1",
    )
    found = entries(answer(capsys, "bias", *options))
    cfg = bias_vs_K.Config(worlds=("xor",), estimators=("grpo", "tic_grpo"), K=3, etas=(1.0,))
    rows = bias_vs_K.rows(cfg)
    names = (
        "k",
        "drift",
        "bias_current",
        "bias_old",
        "bias_current_scaled",
        "bias_old_scaled",
        "clip_fraction",
    )
    for row in rows:
        shown = found[row["estimator"]]["rows"][row["k"]]
        assert {name: shown[name] for name in names} == {name: row[name] for name in names}
        assert found[row["estimator"]]["scale"] == row["scale"]
    assert any(row["clip_fraction"] > 0 for row in rows)


@pytest.mark.parametrize("steps", ["reused", "disjoint"])
def test_bias_over_all_groups_is_that_of_the_library(capsys, steps):
    mdp, old = start("xor")
    options = ("--world", "xor", "--estimator", "grpo", "--group-size", "2", "--inner-steps", "1")
    found = answer(capsys, "bias", *options, "--learning-rate", "0.5", "--steps", steps)["estimators"][0]
    scale, _ = known_scale(mdp, old, "grpo", 2)
    reuse = reuse_bias(mdp, old, "grpo", 2, 1, 0.5, scale=scale, batches=steps)
    for k, row in enumerate(found["rows"]):
        assert row["mse_scaled"] == float(reuse.mse[k]) and row["k"] == k
        assert row["bias_current_scaled"] == float(reuse.bias[k].norm())
        old_bias = (reuse.gradient[k] - scale * policy_gradient(mdp, old)).norm()
        assert row["bias_old_scaled"] == float(old_bias)
    assert len(found["rows"]) == 2


def test_moments_are_those_of_the_library(capsys):
    mdp, old = start("xor")
    options = ("--world", "xor", "--group-size", "4", "--inner-steps", "1", "--learning-rate", "0.5")
    for name, entry in entries(answer(capsys, "moments", *options)).items():
        theta = old + 0.5 * expected_gradient(mdp, old, old, name, 4)
        moments = gradient_moments(mdp, theta, old, name, 4)
        wanted = {field.name: getattr(moments, field.name) for field in dataclasses.fields(moments)}
        assert {field: entry[field] for field in wanted} == plain(wanted)
        assert entry["variance"] > 0 and entry["effective_sample_size"] < 4


def test_decompose_has_the_terms_of_the_library(capsys):
    mdp, old = start("long-answers")
    found = entries(answer(capsys, "decompose", "--world", "long-answers", "--learning-rate", "2"))
    assert set(found) == {"grpo", "tic_grpo_eq11"}
    for name, entry in found.items():
        theta = old + 2 * expected_gradient(mdp, old, old, name, 8)
        made = decompose(mdp, theta, old, name, 8)
        assert entry["terms"] == plain(made.terms) and entry["printed_terms"] == plain(made.printed_terms)
        assert entry["residual_printed"] == made.residual_printed > VISIBLE
        assert entry["residual_corrected"] == made.residual_corrected < EXACT["atol"]
        assert entry["corrected_norms"]["main"] == float(made.terms["main"].norm())


def test_decompose_prints_every_term_of_the_table(capsys):
    options = ("decompose", "--world", "xor", "--estimator", "grpo", "--group-size", "2")
    (entry,) = answer(capsys, *options)["estimators"]
    assert run(*options) == 0
    printed = capsys.readouterr().out
    terms = {**entry["corrected_norms"], **entry["printed_norms"]}
    assert len(terms) > 2 and "residual" in printed
    assert all(term.replace("_", " ") in printed for term in terms)


def test_bounds_are_those_of_the_library(capsys):
    mdp, old = start("xor")
    options = ("--world", "xor", "--learning-rate", "0.001", "--inner-steps", "2", "--outer-steps", "500")
    found = answer(capsys, "bounds", *options, "--group-size", "4")
    assert found["best_return"] == dataclasses.asdict(optimum(mdp))
    for name, entry in entries(found).items():
        constants = instance_constants(mdp, name, 4, 0.001, 2)
        given = {"initial_return": expected_return(mdp, old), "outer_steps": 500}
        for said, theorem in zip(entry["theorems"], (theorem_1, theorem_2), strict=True):
            bound = theorem(constants, **given)
            assert said["right"] == bound.right < math.inf and said["terms"] == dict(bound.terms)
            assert said["applies"] and [c["holds"] for c in said["conditions"]] == [
                h.holds for h in bound.hypotheses
            ]
        assert entry["constants"]["L_J"]["value"] == constants.L_J
        assert set(entry["constants"]) <= set(MEANING)


def test_a_theorem_that_says_nothing_names_the_condition_that_fails(capsys):
    options = ("bounds", "--world", "xor", "--estimator", "grpo", "--learning-rate", "1")
    second = answer(capsys, *options)["estimators"][0]["theorems"][1]
    assert second["right"] == "inf" and not second["applies"]
    failed = [condition["name"] for condition in second["conditions"] if not condition["holds"]]
    assert run(*options) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert failed and all(f"FAILS: {name}" in printed for name in failed)
    assert "theorem 2: right side inf, says nothing here" in printed


SMALL = ("--world", "xor", "--group-size", "2")


@pytest.mark.parametrize("command", ["gradient", "bias", "moments", "bounds"])
def test_tables_say_the_world_the_group_and_every_estimator(capsys, command):
    assert run(command, *SMALL) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("xor: 1 rows of 2 logits, T = 2; G = 2")
    assert "grpo" in printed and "tic_grpo" in printed
    methods = {"gradient", "bias", "moments"}
    assert command not in methods or "enumeration" in printed


def test_few_estimators_have_a_column_each_and_more_of_them_a_row(capsys):
    assert run("moments", *SMALL, "--estimator", "grpo", "rloo") == 0
    first_words = [line.strip("│┃ ").split(" ")[0] for line in capsys.readouterr().out.splitlines()]
    assert "variance" in first_words and "rloo" not in first_words
    assert run("moments", *SMALL, "--estimator", "grpo", "dapo", "--estimator", "rloo", "gspo", "gmpo") == 0
    first_words = [line.strip("│┃ ").split(" ")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"grpo", "dapo", "rloo", "gspo", "gmpo"} <= set(first_words) and "variance" not in first_words


def test_brackets_of_a_formula_are_printed(capsys):
    assert run("bounds", *SMALL, "--estimator", "grpo") == 0
    assert "E[g_hat_0]" in " ".join(capsys.readouterr().out.split())


def test_numbers_that_json_does_not_have_are_words():
    written = json.dumps(plain({"a": [math.inf, (-math.inf, math.nan)], "b": torch.tensor([1.5, math.inf])}))
    assert written == '{"a": ["inf", ["-inf", "nan"]], "b": [1.5, "inf"]}'


def test_set_reads_numbers_as_the_factory_declares_them(capsys):
    mdp, old = start("xor")
    found = answer(capsys, "gradient", *SMALL, "--estimator", "grpo", "--set", "delta=1e-1", "eps_low=0")
    mean = expected_gradient(mdp, old, old, grpo(eps_low=0.0, delta=0.1), 2)
    assert tensor(found["estimators"][0]["gradient"]).equal(mean)
