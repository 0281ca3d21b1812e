"""mdp.py: worlds unroll to the responses, rows and rewards of their definition, and bad ones are refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.definitions import World
from tests.properties.strategies import automata, eighths, shifted, sizes, trees, worlds
from ticgrpo_theory.mdp import MAX_RESPONSES, TokenMDP
from ticgrpo_theory.worlds.graph import MAX_PATHS


def listed(prompt: TokenMDP) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """(tokens, rows, reward) of every response of a single prompt, in the order of the graph's paths."""
    paths, graph = prompt.graph.paths, prompt.graph
    found = []
    for tokens, rows, mask, outcome in zip(paths.tokens, paths.rows, paths.mask, paths.outcome, strict=True):
        assert int(mask.sum()) == graph.length[outcome]
        found.append((tuple(tokens[mask].tolist()), tuple(rows[mask].tolist()), float(graph.reward[outcome])))
    return found


def assert_unrolls_to(mdp: TokenMDP, prompts: list[tuple[float, World]]) -> None:
    assert [weight for weight, _ in mdp.prompts] == pytest.approx([weight for weight, _ in prompts])
    for (_, prompt), (_, world) in zip(mdp.prompts, prompts, strict=True):
        assert listed(prompt) == world.responses
        assert prompt.responses == [tokens for tokens, _, _ in world.responses]


def check_hand_worked_tree() -> None:
    """V = 3, T = 2, EOS = 1: rows () (0) (2); the reward tells the responses apart, EOS is part of them."""
    value_of = {(0, 0): 1.0, (0, 1): 2.0, (0, 2): 3.0, (1,): 4.0, (2, 0): 5.0, (2, 1): 6.0, (2, 2): 7.0}
    called: list[tuple[int, ...]] = []

    def reward(response: tuple[int, ...]) -> float:
        called.append(response)
        return value_of.get(response, 0.0)

    mdp = TokenMDP.prefix_tree(vocab_size=3, horizon=2, reward=reward, eos=1)
    assert called == list(value_of) and all(type(a) is int for response in called for a in response)
    assert mdp.prefixes == [(), (0,), (2,)]
    assert (mdp.num_rows, mdp.horizon, mdp.vocab_size, mdp.max_visits) == (3, 2, 3, 1)
    rows = {(0, 0): (0, 1), (0, 1): (0, 1), (0, 2): (0, 1), (1,): (0,)}
    rows |= {(2, 0): (0, 2), (2, 1): (0, 2), (2, 2): (0, 2)}
    assert listed(mdp) == [(tokens, rows[tokens], value_of[tokens]) for tokens in value_of]


def test_a_hand_worked_tree_with_an_end_token():
    check_hand_worked_tree()


def check_hand_worked_automaton() -> None:
    """State = number of tokens 0 so far mod 2; EOS = 2 leads from q to 1 - q; T = 2, reward 10 q + length."""
    transition = [[1, 0, 1], [0, 1, 0]]
    mdp = TokenMDP.automaton(transition, 3, 2, lambda q, length: 10.0 * q + length, rows="state", eos=2)
    expected = [
        ((0, 0), (0, 1), 2.0),
        ((0, 1), (0, 1), 12.0),
        ((0, 2), (0, 1), 2.0),
        ((1, 0), (0, 0), 12.0),
        ((1, 1), (0, 0), 2.0),
        ((1, 2), (0, 0), 12.0),
        ((2,), (0,), 11.0),
    ]
    assert listed(mdp) == expected
    assert mdp.max_visits == 2
    by_time = TokenMDP.automaton(transition, 3, 2, [0.0, 1.0], eos=2)
    assert [rows for _, rows, _ in listed(by_time)] == [(0, 3)] * 3 + [(0, 2)] * 3 + [(0,)]
    assert by_time.max_visits == 1


def test_a_hand_worked_automaton_with_an_end_token():
    check_hand_worked_automaton()


@given(worlds(largest=81))
def test_every_world_unrolls_to_its_definition(drawn):
    assert_unrolls_to(drawn.mdp, drawn.prompts)


@given(sizes(81).flatmap(lambda size: trees(*size)))
def test_row_i_of_a_tree_belongs_to_prefix_i(drawn):
    mdp, world = drawn.mdp, drawn.world
    assert len(mdp.prefixes) == mdp.num_rows
    for tokens, rows, _ in world.responses:
        assert [mdp.prefixes[s] for s in rows] == [tokens[:t] for t in range(len(tokens))]


@given(sizes(64).flatmap(lambda size: trees(*size)))
def test_rewards_given_as_numbers_are_in_the_order_of_the_responses(drawn):
    mdp, world = drawn.mdp, drawn.world
    numbers = [reward for _, _, reward in world.responses]
    eos = mdp.graph.eos
    for given_as in (numbers, torch.tensor(numbers, dtype=torch.float64)):
        again = TokenMDP.prefix_tree(vocab_size=mdp.vocab_size, horizon=mdp.horizon, reward=given_as, eos=eos)
        assert listed(again) == world.responses


@given(worlds(largest=81))
def test_max_visits_counts_the_busiest_row_of_the_busiest_response(drawn):
    mdp, prompts = drawn.mdp, drawn.prompts
    every = [rows for _, world in prompts for _, rows, _ in world.responses]
    assert mdp.max_visits == max(max(rows.count(s) for s in rows) for rows in every)


def check_two_prompts() -> None:
    """Two prompts of one token, weights 1/4 and 3/4: rows 0 and 1, or both row 0."""
    right, wrong = (TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=r) for r in ([1.0, 0.0], [0.0, 1.0]))
    for share, second in ((False, 1), (True, 0)):
        mdp = TokenMDP.mixture([right, wrong], [0.25, 0.75], share_rows=share)
        assert mdp.num_rows == 1 + second
        assert [weight for weight, _ in mdp.prompts] == [0.25, 0.75]
        (_, a), (_, b) = mdp.prompts
        assert listed(a) == [((0,), (0,), 1.0), ((1,), (0,), 0.0)]
        assert listed(b) == [((0,), (second,), 0.0), ((1,), (second,), 1.0)]


def test_a_hand_worked_mixture():
    check_two_prompts()


@given(sizes(16).flatmap(lambda size: st.tuples(trees(*size), automata(*size), trees(*size))))
def test_a_mixture_of_mixtures_is_the_flat_mixture(drawn):
    a, b, c = (definition.mdp for definition in drawn)
    inner = TokenMDP.mixture([a, b], [0.25, 0.75], share_rows=False)
    outer = TokenMDP.mixture([c, inner], [0.5, 0.5], share_rows=False)
    assert [weight for weight, _ in outer.prompts] == [0.5, 0.125, 0.375]
    assert outer.num_rows == a.num_rows + b.num_rows + c.num_rows
    for (_, prompt), world, offset in zip(
        outer.prompts[1:],
        (drawn[0].world, drawn[1].world),
        (c.num_rows, c.num_rows + a.num_rows),
        strict=True,
    ):
        assert listed(prompt) == shifted(world, offset).responses


@given(eighths(-1, 1), st.integers(1, 6))
def test_a_vocabulary_of_one_has_one_response(reward, horizon):
    endless = TokenMDP.prefix_tree(vocab_size=1, horizon=horizon, reward=[reward])
    assert endless.responses == [(0,) * horizon]
    ending = TokenMDP.prefix_tree(vocab_size=1, horizon=horizon, reward=[reward], eos=0)
    assert ending.responses == [(0,)] and ending.graph.length[0] == 1


def test_a_chain_that_may_end_at_every_token_is_small_at_any_horizon():
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=100, reward=lambda y: float(len(y)), eos=1)
    assert mdp.graph.num_paths == 101 and mdp.num_rows == 100


BAD_SIZES = [
    (dict(vocab_size=0, horizon=1), r"vocab_size = 0, horizon = 1: both must be at least 1"),
    (dict(vocab_size=2, horizon=0), r"horizon = 0: both must be at least 1 \(a response has a token\)"),
    (dict(vocab_size=2, horizon=1, eos=2), r"eos = 2 is outside the vocabulary 0\.\.1: .* or eos=None"),
    (dict(vocab_size=2, horizon=1, eos=-1), r"eos = -1 is outside the vocabulary"),
]


@pytest.mark.parametrize("arguments, message", BAD_SIZES)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenMDP.prefix_tree(reward=[0.0, 0.0], **arguments)
    with pytest.raises(ValueError, match=message):
        TokenMDP.automaton([[0] * arguments["vocab_size"]], reward=[0.0], **arguments)


@pytest.mark.parametrize("horizon", [13, 10_000])
def test_a_tree_that_is_too_large_is_refused_before_anything_is_allocated(horizon):
    message = rf"T = {horizon} has 4\*\*{horizon} responses .* MAX_RESPONSES = {MAX_RESPONSES:,} .* automaton"
    with pytest.raises(ValueError, match=message):
        TokenMDP.prefix_tree(vocab_size=4, horizon=horizon, reward=[0.0])


def test_the_largest_tree_is_one_of_exactly_max_responses():
    assert 2**25 == MAX_RESPONSES
    with pytest.raises(ValueError, match=rf"reward has shape \(1,\); {MAX_RESPONSES:,} numbers are needed"):
        TokenMDP.prefix_tree(vocab_size=2, horizon=25, reward=[0.0])
    with pytest.raises(ValueError, match="2\\*\\*26 responses"):
        TokenMDP.prefix_tree(vocab_size=2, horizon=26, reward=[0.0])


def test_a_reward_function_is_refused_where_it_would_be_called_too_often():
    with pytest.raises(
        ValueError, match=rf"called for 16,777,216 .* MAX_PATHS = {MAX_PATHS:,}; give .* tensor"
    ):
        TokenMDP.prefix_tree(vocab_size=4, horizon=12, reward=lambda y: 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match=rf"reward\[1\] = {bad} is not finite"):
        TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, bad])
    with pytest.raises(ValueError, match=rf"reward\(\(1,\)\) = {bad} is not finite"):
        TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=lambda y: bad if y == (1,) else 0.0)
    with pytest.raises(ValueError, match=rf"reward\[1\] = {bad} is not finite"):
        TokenMDP.automaton([[0, 1], [1, 0]], 2, 1, [0.0, bad])


def test_rewards_of_the_wrong_length_are_refused():
    with pytest.raises(
        ValueError, match=r"reward has shape \(3,\); 4 numbers are needed, one for each response"
    ):
        TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 1.0, 0.0])
    with pytest.raises(
        ValueError, match=r"reward has shape \(1,\); 2 numbers are needed, one for each state"
    ):
        TokenMDP.automaton([[0, 1], [1, 0]], 2, 3, [0.0])


BAD_AUTOMATA = [
    (dict(transition=[[0, 1]]), r"integers in 0\.\.0, the 1 states"),
    (dict(transition=[[0, -1]]), r"must be integers in 0\.\.0"),
    (dict(transition=[[0.0, 0.0]]), r"must be integers"),
    (dict(transition=[[0, 0]], start=1), r"start = 1 must be integers in 0\.\.0"),
    (
        dict(transition=[0, 0]),
        r"transition has shape \(2,\); it must be \[Q, V\] or \[T, Q, V\] with T = 3, V = 2",
    ),
    (dict(transition=[[0, 0, 0]]), r"transition has shape \(1, 3\)"),
    (dict(transition=[[[0, 0]]] * 2), r"transition has shape \(2, 1, 2\); .* T = 3"),
    (dict(transition=torch.empty(0, 2, dtype=torch.int64)), r"transition has shape \(0, 2\)"),
    (dict(transition=[[0, 0]], rows="depth"), r"rows = 'depth': choose 'state', 'time_state'"),
    (
        dict(transition=[[0, 0]], rows=[0, 1]),
        r"rows has shape \(2,\) .* shape \[Q\] = \(1,\) or \[T, Q\] = \(3, 1\)",
    ),
    (dict(transition=[[0, 0]], rows=[-1]), r"rows has shape \(1,\) and type int64; give .* integers >= 0"),
    (dict(transition=[[0, 0]], rows=[0.5]), r"rows has shape \(1,\) and type float64"),
]


@pytest.mark.parametrize("arguments, message", BAD_AUTOMATA)
def test_a_bad_automaton_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenMDP.automaton(vocab_size=2, horizon=3, reward=[0.0], **arguments)


def bandit(vocab_size: int = 2, horizon: int = 1) -> TokenMDP:
    return TokenMDP.prefix_tree(vocab_size=vocab_size, horizon=horizon, reward=lambda y: float(y[0] == 0))


BAD_MIXTURES = [
    ([bandit(), bandit()], [0.5, 0.6], False, r"weights = \[0\.5, 0\.6\] for 2 prompts: .* adding to 1"),
    ([bandit(), bandit()], [1.5, -0.5], False, r"one positive weight for each prompt"),
    ([bandit(), bandit()], [math.nan, 1.0], False, r"weights = \[nan, 1\.0\]"),
    ([bandit(), bandit()], [1.0], False, r"weights = \[1\.0\] for 2 prompts"),
    ([], [], False, r"for 0 prompts"),
    ([bandit(), bandit(3)], [0.5, 0.5], False, r"vocabularies \[2, 3\] .* one vocabulary is needed"),
    (
        [bandit(), bandit(2, 2)],
        [0.5, 0.5],
        True,
        r"\[1, 3\] logits rows .* share_rows=True: .* equal row counts",
    ),
]


@pytest.mark.parametrize("mdps, weights, share_rows, message", BAD_MIXTURES)
def test_a_bad_mixture_is_refused(mdps, weights, share_rows, message):
    with pytest.raises(ValueError, match=message):
        TokenMDP.mixture(mdps, weights, share_rows=share_rows)


def test_what_belongs_to_one_prompt_is_refused_for_several_and_prefixes_for_automata():
    both = TokenMDP.mixture([bandit(), bandit()], [0.5, 0.5], share_rows=True)
    for name in ("graph", "responses", "prefixes"):
        with pytest.raises(
            ValueError, match=r"this world has 2 prompts, .* read them one by one from mdp.prompts"
        ):
            getattr(both, name)
    with pytest.raises(ValueError, match="only a prefix tree has one logits row for each prefix"):
        _ = TokenMDP.automaton([[0, 0]], 2, 2, [1.0]).prefixes
