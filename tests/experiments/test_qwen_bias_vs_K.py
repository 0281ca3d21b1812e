"""qwen_bias_vs_K.py on a tiny random network in the place of the real one: columns, figure, refusals."""

import dataclasses
import warnings
from pathlib import Path

import pandas as pd
import pytest

from experiments import bias_vs_K, qwen_bias_vs_K
from llm.exact_model.inner_products import weights_digest
from llm.model import Architecture, tiny
from tests.unit.llm.exact_model.exact_cases import Letters, pairs, words

TINY = Architecture(vocab_size=512, hidden=16, eos=1, pad=0, heads=2)
CFG = qwen_bias_vs_K.Config(
    worlds=("pairs", "words"),
    estimators=("trajectory_is", "grpo", "stale"),
    etas=(0.02, 0.002),
    adamw_rates=(1e-3,),
    K=2,
    group_size=4,
)


class Tokenizer(Letters):
    """Prompts are letters too, whatever they say."""

    unk_token_id = None

    def __call__(self, text, **options):
        return {"input_ids": [2 + ord(letter) % 8 for letter in text]}

    def convert_tokens_to_ids(self, token):
        return 1


@pytest.fixture(scope="module")
def made():
    lm = dataclasses.replace(tiny(TINY, std=0.3), tokenizer=Tokenizer())
    worlds = {
        "pairs": qwen_bias_vs_K.World("ab", lambda tokenizer, end: pairs()),
        "words": qwen_bias_vs_K.World("abc", lambda tokenizer, end: words()),
    }
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        patch.setattr(qwen_bias_vs_K, "language_model", lambda *which: lm)
        patch.setattr(qwen_bias_vs_K, "WORLDS", worlds)
        qwen_bias_vs_K.start_of.cache_clear()
        found = pd.DataFrame(qwen_bias_vs_K.rows(CFG))
        qwen_bias_vs_K.start_of.cache_clear()
    return found


def test_the_columns_are_those_of_bias_vs_K_and_every_key_is_there_once(made):
    table = bias_vs_K.rows(bias_vs_K.Config(worlds=("right-answer",), estimators=("grpo",), etas=(1.0,), K=1))
    assert set(table[0]) <= set(made.columns)
    assert len(made) == 2 * 3 * 3 * 3
    assert not made.duplicated(["world", "estimator", "optimizer", "eta", "k"]).any()


def test_only_the_trajectory_ratio_stays_on_the_current_gradient_in_float32(made):
    relative = made.bias_current_scaled / (made.scale.abs() * made.gradient_norm)
    exact, moved = made.estimator == "trajectory_is", made.k == 2
    assert relative[exact].max() < 1e-5
    for _, row in made[~exact & moved & (made.optimizer == "adamw")].iterrows():
        assert relative[row.name] > 1e-3, row


def test_the_figure_has_a_column_for_each_prompt_and_a_pair_of_rows_for_each_optimizer(made):
    figure = qwen_bias_vs_K.draw(made)
    assert len(figure.axes) == 8
    assert {ax.get_title() for ax in figure.axes if ax.get_title()} == {"pairs", "words"}
    assert {line.get_label() for line in figure.axes[0].lines} >= set(CFG.estimators)


def test_other_weights_than_those_of_the_rows_are_refused_with_their_digest(monkeypatch):
    lm = tiny(TINY)
    monkeypatch.setattr(qwen_bias_vs_K, "load", lambda *args, **options: lm)
    qwen_bias_vs_K.language_model.cache_clear()
    there = weights_digest(lm.network)
    with pytest.raises(ValueError, match=f"have digest {there}, .* give --digest {there} and other folders"):
        qwen_bias_vs_K.language_model(Path("m"), None, "other")
    assert qwen_bias_vs_K.language_model(Path("m"), None, there) is lm
    qwen_bias_vs_K.language_model.cache_clear()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": 0}, r"K = 0: it takes at least 1 step"),
        ({"etas": (), "adamw_rates": ()}, r"etas and adamw_rates are empty: give at least one"),
        ({"worlds": ("sums",)}, r"unknown entry 'sums' of worlds; the nearest is 'sum'"),
        ({"group_size": 1}, r"group"),
    ],
)
def test_configurations_that_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        qwen_bias_vs_K.check(dataclasses.replace(qwen_bias_vs_K.Config(), **change))
    with pytest.raises(ValueError, match="--model is missing: the folder of Qwen"):
        qwen_bias_vs_K.language_model(None, None, "any")
