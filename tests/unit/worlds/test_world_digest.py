"""`TokenMDP.digest`: one word for the content of a world, the same when it is built again."""

from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS, shared_row


def automaton(**changes) -> TokenMDP:
    """Three states, EOS = 1, rows of their own."""
    made = {
        "transition": [[1, 2], [2, 0], [0, 1]],
        "vocab_size": 2,
        "horizon": 2,
        "reward": [0.0, 0.5, 1.0],
        "rows": [0, 1, 2],
        "eos": 1,
    }
    return TokenMDP.automaton(**{**made, **changes})


def mixed(weights: list[float]) -> TokenMDP:
    """Two prompts that share the one row."""
    return TokenMDP.mixture(
        [WORLDS["xor"].build(), shared_row(2, lambda a, b: a == b)], weights, share_rows=True
    )


CHANGED = {
    "reward": lambda: automaton(reward=[0.0, 0.5, 0.75]),
    "transition": lambda: automaton(transition=[[1, 2], [2, 0], [1, 1]]),
    "row": lambda: automaton(rows=[0, 1, 1]),
    "row that nothing reads": lambda: automaton(rows=[0, 1, 3]),
    "length": lambda: automaton(eos=None),
    "horizon": lambda: automaton(horizon=3),
    "start": lambda: automaton(start=1),
}


def check_digest_of_rewards() -> None:
    """One reward of a tree, and a reward that is written into a world that is already there."""
    assert tree([1, 0, 0, 1]).digest == tree([1.0, -0.0, 0, 1]).digest != tree([1, 0, 0, 0.5]).digest
    mdp, other = automaton(), automaton()
    assert mdp.digest == other.digest
    other.graph.reward[0] = 2.0
    assert mdp.digest != other.digest


def tree(rewards: list[float]) -> TokenMDP:
    return TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=rewards)


def test_worlds_are_told_apart_by_their_content():
    check_digest_of_rewards()
    digests = {name: build().digest for name, build in CHANGED.items()} | {"": automaton().digest}
    assert len(set(digests.values())) == len(digests)
    assert all(build().digest == digests[name] for name, build in CHANGED.items())
    check_digest_of_weights()
    for world in WORLDS.values():
        assert world.build().digest == world.build().digest
    assert len({world.build().digest for world in WORLDS.values()}) == len(WORLDS)


def check_digest_of_weights() -> None:
    assert mixed([0.5, 0.5]).digest == mixed([0.5, 0.5]).digest != mixed([0.25, 0.75]).digest


def test_a_depth_stored_twice_is_the_same_world():
    """Depths that share their table, or that have equal ones."""
    moves = [[1, 2], [2, 0], [0, 1]]
    assert automaton(transition=[moves, moves]).digest == automaton().digest
