"""graph.py: trees compute the tables that a stored graph would hold, and counting agrees with listing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given

from tests.properties.strategies import sizes, trees, worlds
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds.graph import MAX_PATHS, Graph, Tree


def stored(tree: Tree) -> Graph:
    """A Graph with the tables of the tree written out."""
    return tree.with_rows(np.arange(tree.row.size))


def walk(graph: Graph, tokens: tuple[int, ...]) -> tuple[list[int], int]:
    """(rows, outcome) of a response, by following the tables one token at a time."""
    node, rows = graph.start, []
    for t, a in enumerate(tokens):
        row, successor = graph.table(t)
        rows.append(int(row[node]))
        following = int(successor[node, a])
        if following < 0:
            assert t == len(tokens) - 1
            return rows, int(graph.ended_start[t]) - 1 - following
        node = following
    assert len(tokens) == graph.horizon
    return rows, graph.final_start + node


def assert_tables_lead_to_the_listed_outcomes(graph: Graph) -> None:
    paths = graph.paths
    for tokens, rows, mask, outcome in zip(paths.tokens, paths.rows, paths.mask, paths.outcome, strict=True):
        assert walk(graph, tuple(tokens[mask].tolist())) == (rows[mask].tolist(), outcome)
        assert not mask[int(mask.sum()) :].any() and (rows[~mask] == 0).all()


@given(worlds(largest=81))
def test_tables_lead_to_the_listed_outcomes(drawn):
    for _, prompt in drawn.mdp.prompts:
        assert_tables_lead_to_the_listed_outcomes(prompt.graph)


@given(sizes(81).flatmap(lambda size: trees(*size)))
def test_a_tree_and_the_same_graph_with_stored_tables_agree(drawn):
    tree = drawn.mdp.graph
    graph = stored(tree)
    for name in ("tokens", "rows", "mask", "outcome"):
        np.testing.assert_array_equal(getattr(tree.paths, name), getattr(graph.paths, name))
    assert tree.num_paths == graph.num_paths == len(tree.reward) == len(tree.length)
    np.testing.assert_array_equal(tree.paths.outcome, tree.outcome_of_response)
    assert [tree.nodes(t) for t in range(tree.horizon + 1)] == [
        graph.nodes(t) for t in range(graph.horizon + 1)
    ]


@given(worlds(largest=81))
def test_the_number_of_responses_is_the_number_listed(drawn):
    for (_, prompt), (_, world) in zip(drawn.mdp.prompts, drawn.prompts, strict=True):
        assert prompt.graph.num_paths == len(world.responses) == len(prompt.graph.paths.outcome)


@given(worlds(largest=81))
def test_responses_are_listed_once_each_in_lexicographic_order(drawn):
    for _, prompt in drawn.mdp.prompts:
        assert all(first < second for first, second in pairwise(prompt.responses))


def test_rows_can_be_renamed():
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 1.0, 2.0, 3.0])
    renamed = mdp.graph.with_rows(np.array([7, 5, 6]))
    assert renamed.paths.rows.tolist() == [[7, 5], [7, 5], [7, 6], [7, 6]]
    assert renamed.reward.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_expanding_too_many_responses_is_refused_before_allocating():
    mdp = TokenMDP.automaton([[0, 0]], vocab_size=2, horizon=23, reward=[1.0])
    message = (
        rf"8,388,608 responses token by token, more than MAX_PATHS = {MAX_PATHS:,}; .*'dynamic_programming'"
    )
    with pytest.raises(ValueError, match=message):
        _ = mdp.graph.paths


def test_a_number_of_responses_beyond_every_float_is_still_a_refusal():
    endless = TokenMDP.automaton([[0, 0]], vocab_size=2, horizon=5000, reward=[1.0])
    assert endless.graph.num_paths == float("inf")
    with pytest.raises(ValueError, match="enumeration would expand inf responses"):
        _ = endless.responses


def test_an_automaton_of_a_long_horizon_stores_one_table():
    mdp = TokenMDP.automaton(np.zeros((4, 8), dtype=np.int64), vocab_size=8, horizon=1024, reward=[1.0] * 4)
    assert mdp.graph.successor.shape == (4, 8)


def test_visits_of_many_rows_are_counted_in_several_pieces():
    # Row 300 is read by two consecutive tokens; rows come in pieces of 256.
    rows = [[300], [300], [1]]
    mdp = TokenMDP.automaton([[0, 0]], vocab_size=2, horizon=3, reward=[1.0], rows=rows)
    assert mdp.num_rows == 301 and mdp.max_visits == 2
