"""answers.py: the tree of an alphabet is that of prefix_tree, a grammar by hand, and what is refused."""

import math

import numpy as np
import pytest
import torch

from llm.exact_model.answers import Answers, alphabet, grammar
from tests.properties.tolerances import EXACT
from tests.unit.llm.exact_model.exact_cases import END, Letters, ended, pairs, words
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.objective import expected_return
from ticgrpo_theory.worlds.mdp import TokenMDP


@pytest.mark.parametrize(("answers", "horizon", "eos"), [(pairs, 2, None), (ended, 3, 0)])
@pytest.mark.parametrize("name", ["grpo", "gspo"])
def test_an_alphabet_is_the_prefix_tree_of_its_letters(answers, horizon, eos, name):
    given = answers()
    letters = [
        "abc"[n - 1 if eos is not None else n] if n != eos else "" for n in range(3 + (eos is not None))
    ]
    tree = TokenMDP.prefix_tree(
        vocab_size=len(letters),
        horizon=horizon,
        reward=lambda response: float("".join(letters[n] for n in response) == "ab"),
        eos=eos,
    )
    world = given.world(given.tokens)
    assert [tuple(given.tokens.index(t) for t in prefix) for prefix in given.prefixes] == tree.prefixes
    old = torch.sin(torch.arange(1.0, tree.num_rows * tree.vocab_size + 1, dtype=torch.float64))
    old = old.view(tree.num_rows, tree.vocab_size)
    found, expected = (expected_gradient(mdp, old.cos(), old, name, 4) for mdp in (world, tree))
    torch.testing.assert_close(found, expected, **EXACT)


def test_a_grammar_by_hand():
    """ab$ 1, a$ 0, cba$ 1/2, d$ 0: after a come b and $, and J = P(a) P(b | a) + P(c) / 2."""
    given = words()
    assert given.tokens == [END, 2, 3, 4, 5]
    assert given.prefixes == [(), (2,), (4,), (5,), (2, 3), (4, 3), (4, 3, 2)]
    allowed = given.allowed(given.tokens)
    assert allowed.sum(axis=1).tolist() == [3, 2, 1, 1, 1, 1, 1]
    assert allowed[0].tolist() == [False, True, False, True, True]
    world = given.world(given.tokens)
    theta = torch.zeros(7, 5, dtype=torch.float64).masked_fill(~torch.from_numpy(allowed), -torch.inf)
    torch.testing.assert_close(float(expected_return(world, theta)), 1 / 3 * 1 / 2 + 1 / 3 * 1 / 2, **EXACT)
    lengths = world.graph.length[np.unique(world.graph.paths.outcome)]
    assert (world.horizon, set(lengths.tolist())) == (4, {1, 2, 3, 4})
    assert set(world.graph.reward.tolist()) == {0.0, 0.5, 1.0}


def test_tokens_of_other_prompts_are_never_drawn():
    given = words()
    wide = [*given.tokens, 8]
    allowed = given.allowed(wide)
    assert not allowed[:, -1].any()
    theta = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(
        ~torch.from_numpy(allowed), -torch.inf
    )
    torch.testing.assert_close(float(expected_return(given.world(wide), theta)), 1 / 3, **EXACT)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: alphabet(Letters(), ["a", "1"], 2, float), r"'1' is 2 tokens .*whole answers .* grammar\("),
        (lambda: alphabet(Letters(), "aab", 2, lambda t: 0.0), r"'a' is the token 2, which is taken"),
        (
            lambda: alphabet(Letters(), "ab", 0, lambda t: 0.0),
            r"horizon = 0: 2 letters give 1 strings; give 1",
        ),
        (
            lambda: alphabet(Letters(), "ab", 40, lambda t: 0.0),
            r"1,099,511,627,776 strings; .*at most MAX_PATHS",
        ),
        (
            lambda: grammar(Letters(), {"ab": 1.0, "abc": 0.0}),
            r"'ab' begins 'abc', .*give an end token, end=",
        ),
        (lambda: grammar(Letters(), {"ab": 1.0}), r"1 answer: a policy needs two or more to choose from"),
        (
            lambda: grammar(Letters(), {"ab": 1.0, "": 0.0}),
            r"an answer has no token: give it text, or an end",
        ),
        (lambda: Answers({(2,): 1.0, (3,): math.nan}, {2: "a", 3: "b"}), r"reward of 'b' is nan"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_answers_of_the_same_tokens_are_refused():
    class Folding(Letters):
        def encode(self, text, add_special_tokens=True):
            return super().encode(text.lower())

    with pytest.raises(ValueError, match=r"'Ab' has the tokens \[2, 3\] of another answer: drop one"):
        grammar(Folding(), {"ab": 1.0, "Ab": 0.0})
