"""prompt_graphs.py: all prompts as one list of nodes, worked by hand, and which worlds are prefix trees."""

import pytest

from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import prompt_graphs
from ticgrpo_theory.simulate.prompt_graphs import graphs_of, tree_of
from ticgrpo_theory.worlds import WORLDS


def two_tokens(rewards: list[float]) -> TokenMDP:
    return TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=rewards)


def test_nodes_and_outcomes_of_two_prompts_are_numbered_one_after_the_other():
    mdp = TokenMDP.mixture(
        [two_tokens([0, 1, 2, 3]), two_tokens([4, 5, 6, 7])], [0.25, 0.75], share_rows=False
    )
    graphs = graphs_of(mdp)
    assert graphs.weight.tolist() == [0.25, 0.75] and graphs.root.tolist() == [0, 3]
    assert graphs.row.tolist() == [0, 1, 2, 3, 4, 5]
    # Six nodes; what lies behind them is an outcome. Each prompt has two layers.
    assert graphs.onto[0].tolist() == [1, 2] and graphs.onto[3].tolist() == [4, 5]
    reached = graphs.reward[graphs.onto[[1, 2, 4, 5]].reshape(-1) - 6]
    assert reached.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_the_parents_of_a_prefix_tree():
    tree = tree_of(graphs_of(two_tokens([0, 1, 1, 0])), num_rows=3)
    assert tree is not None
    assert tree.order.tolist() == [0, 1, 2]
    assert tree.parent.tolist() == [-1, 0, 0] and tree.token.tolist() == [-1, 0, 1]
    assert tree.node.tolist() == [[0, 1, 2]]


def test_prompts_may_share_rows_where_they_agree_on_the_way_there():
    shared = TokenMDP.mixture(
        [two_tokens([0, 1, 1, 0]), two_tokens([1, 0, 0, 1])], [0.5, 0.5], share_rows=True
    )
    tree = tree_of(graphs_of(shared), num_rows=3)
    assert tree is not None and tree.node.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("world", ["xor", "length-trap"])
def test_a_row_that_serves_twice_makes_no_tree(world):
    mdp = WORLDS[world].build()
    assert tree_of(graphs_of(mdp), mdp.num_rows) is None


def test_a_world_too_large_to_be_laid_out_is_refused(monkeypatch):
    monkeypatch.setattr(prompt_graphs, "MAX_LINKS", 5)
    with pytest.raises(ValueError, match=r"this world has 6 \(node, token\) pairs, more than MAX_LINKS = 5"):
        graphs_of(two_tokens([0, 1, 1, 0]))
    monkeypatch.setattr(prompt_graphs, "MAX_LINKS", 6)
    assert graphs_of(two_tokens([0, 1, 1, 0])).onto.shape == (3, 2)
