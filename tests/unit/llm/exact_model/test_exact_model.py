"""exact_model.py: one row of prefixes against padded rows through the code of training; mistakes are seen."""

import dataclasses
import math

import pytest
import torch

from llm.data.problems import encode
from llm.exact_model.answers import alphabet
from llm.exact_model.exact_model import ExactModel, Prompt
from llm.exact_model.padded_rows import RestrictedScoring, trajectory_gradient
from llm.model import LanguageModel
from llm.sequences import Sequences
from llm.update.groups import Groups
from llm.update.microbatches import consecutive_rows
from llm.update.step import Recipe, accumulate
from tests.properties.tolerances import EXACT, VISIBLE
from tests.unit.llm.exact_model import exact_cases as cases
from ticgrpo_theory.estimators.catalogue import ESTIMATORS
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.groups.multisets import groups
from ticgrpo_theory.exact.objective import expected_return, policy_gradient
from ticgrpo_theory.exact.responses.enumeration import token_log_probabilities

ROWS_AGREE = {torch.float64: 1e-12, torch.float32: 1e-4}
"""||row of prefixes - padded rows|| / ||padded rows|| over all weights."""


def trajectory_gap(model: ExactModel) -> float:
    table = model.table()
    found = model.pull(table, policy_gradient(model.mdp, model.policy_of(table)))
    return cases.gap(found, cases.on_leaves(model, trajectory_gradient(model)))


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize("answers", [cases.pairs, cases.ended, cases.words])
def test_the_row_of_prefixes_gives_the_gradient_of_padded_rows(kind, answers):
    model = cases.exact(answers(), cases.network(kind))
    assert trajectory_gap(model) <= ROWS_AGREE[torch.float64]
    assert max(model.gaps()) <= ROWS_AGREE[torch.float64]


@pytest.mark.parametrize("mistake", ["mask off by one", "wrong positions"])
def test_the_same_check_rejects_a_wrong_row(mistake):
    model = cases.exact(cases.ended())
    row = model.rows[0]
    if mistake == "wrong positions":
        wrong = dataclasses.replace(row, position=torch.arange(len(row.ids)))
    else:
        wrong = dataclasses.replace(row, sees=row.sees.roll(1, dims=1) | torch.eye(len(row.ids)).bool())
    model.rows = [wrong]
    assert trajectory_gap(model) > VISIBLE
    with pytest.raises(
        ValueError, match=r"gives other logits for a row of many prefixes than for plain rows"
    ):
        model._check_row()


def test_answers_without_their_end_token_have_another_gradient():
    whole, cut = (cases.exact(answers) for answers in (cases.words(), cases.without_end(cases.words())))
    assert trajectory_gap(cut) <= ROWS_AGREE[torch.float64]
    a, b = (expected_return(model.mdp, model.policy()) for model in (whole, cut))
    assert abs(a - b) > VISIBLE


@pytest.mark.parametrize("name", ["grpo", "tic_grpo", "gspo"])
def test_a_clipped_mean_off_policy_is_that_of_all_groups_through_the_code_of_training(name):
    model, G = cases.exact(cases.pairs()), 2
    old = cases.moved(model)
    table = model.table()
    mean = expected_gradient(model.mdp, model.policy_of(table), old, name, G)
    found = model.pull(table, mean)

    paths = model.mdp.graph.paths
    logp_old = token_log_probabilities(paths, old)
    members, weight = zip(*groups(logp_old.sum(dim=-1).exp().numpy(), G, 2**20), strict=True)
    index = torch.cat([torch.from_numpy(chunk) for chunk in members])
    answers = [[model.tokens[a] for a in tokens] for tokens in paths.tokens[index.flatten()].tolist()]
    given = Groups(
        Sequences.of_lists([list(cases.PROMPT)] * len(answers), answers, 0),
        torch.from_numpy(model.mdp.graph.reward)[torch.from_numpy(paths.outcome)[index]],
        logp_old[index],
        horizon=2,
        weight=torch.cat([torch.from_numpy(chunk) for chunk in weight]),
    )
    model.network.zero_grad(set_to_none=True)
    scoring = RestrictedScoring(tokens=tuple(model.tokens))
    accumulate(model.network, given, Recipe(ESTIMATORS[name], consecutive_rows(32), scoring))
    expected = cases.on_leaves(model, [-p.grad for p in model.network.parameters()])
    assert cases.gap(found, expected) <= ROWS_AGREE[torch.float64]
    on_policy = model.pull(model.table(), policy_gradient(model.mdp, model.policy()))
    assert cases.gap(on_policy, expected) > VISIBLE


def test_several_prompts_weigh_their_gradients():
    lm = cases.network()
    first, second = (cases.exact(cases.words(), lm, prompt) for prompt in (cases.PROMPT, (4, 6)))
    with pytest.warns(UserWarning, match="hold"):
        both = ExactModel(
            lm, [Prompt(cases.PROMPT, cases.words(), weight=3.0), Prompt((4, 6), cases.words())]
        )
    each = [expected_return(model.mdp, model.policy()) for model in (first, second)]
    J = expected_return(both.mdp, both.policy())
    torch.testing.assert_close(J, 0.75 * each[0] + 0.25 * each[1], **EXACT)
    assert sum(map(len, (first.policy(), second.policy()))) == len(both.policy())


def test_the_temperature_and_the_sampler_of_another_one_divide_the_logits():
    lm = cases.network()
    plain, hot = cases.exact(cases.pairs(), lm), cases.exact(cases.pairs(), lm)
    hot.temperature = 2.0
    torch.testing.assert_close(hot.policy(), plain.policy() / 2, **EXACT)
    torch.testing.assert_close(plain.policy(temperature=2.0), hot.policy(), **EXACT)
    assert trajectory_gap(hot) <= ROWS_AGREE[torch.float64]


def test_answers_with_little_of_the_probability_are_warned_of_with_the_number():
    with pytest.warns(UserWarning, match=r"the answers to the prompt of 3 tokens hold \d+\.\d% of its prob"):
        model = ExactModel(cases.network(), [Prompt(cases.PROMPT, cases.words())])
    whole = cases.exact(alphabet(cases.Letters(), [chr(95 + n) for n in range(12)], 1, lambda text: 1.0))
    torch.testing.assert_close(whole.masses(), [1.0], **EXACT)
    (mass,) = model.masses()
    assert 0 < mass < 0.5


def test_no_prompt_and_no_temperature_are_refused():
    with pytest.raises(ValueError, match="prompts is empty: give at least one"):
        ExactModel(cases.network(), [])
    with pytest.raises(ValueError, match=r"the prompt is empty: give at least one token"):
        cases.exact(cases.pairs(), prompt=())
    with pytest.raises(ValueError, match=r"temperature = 0\.0: it divides logits, give a number above 0"):
        ExactModel(cases.network(), [Prompt(cases.PROMPT, cases.pairs())], temperature=0.0)


def answered(lm: LanguageModel, question: str, letters: str, right: str) -> ExactModel:
    tokens = encode(lm.tokenizer, (("user", question),), "chat")
    answers = alphabet(lm.tokenizer, letters, 2, lambda text: float(text == right))
    return cases.exact(answers, lm, tokens)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "dtype"), [(cases.SMOLLM2, torch.float64), (cases.QWEN, torch.float32)], ids=["smollm2", "qwen"]
)
def test_real_weights_agree_with_padded_rows(name, dtype):
    lm = cases.real(name, dtype)
    model = answered(lm, "What is 17 + 25? Answer with two digits:", "0123456789"[:5], "42")
    assert trajectory_gap(model) <= ROWS_AGREE[dtype]
    model.rows = [dataclasses.replace(model.rows[0], position=torch.arange(len(model.rows[0].ids)))]
    assert trajectory_gap(model) > VISIBLE
    assert math.isfinite(sum(model.masses()))
