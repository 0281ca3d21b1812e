"""Sizes of worlds that are refused before anything is built, with the limit and the way out."""

from ticgrpo_theory.worlds.graph import MAX_PATHS

MAX_HORIZON = 2**20
"""Largest number of tokens of a response: a pass over as many layers takes about a second."""

MAX_LEVELS = 2**14
"""Largest number of levels of a prefix tree, which has a table for each of them."""

MAX_NODES = 2**26
"""Largest number of (time, state) pairs of an automaton: half a GiB for each number that is kept of them."""


def check_horizon(horizon: int) -> None:
    """Raise ValueError for T > MAX_HORIZON."""
    if horizon > MAX_HORIZON:
        raise ValueError(
            f"horizon = {horizon:,} is more than MAX_HORIZON = {MAX_HORIZON:,} tokens, each of which is a "
            f"layer of the world that every sum walks over: lower T"
        )


def check_levels(horizon: int) -> None:
    """Raise ValueError for a prefix tree of more than MAX_LEVELS levels."""
    if horizon > MAX_LEVELS:
        raise ValueError(
            f"a prefix tree with T = {horizon:,} has more than MAX_LEVELS = {MAX_LEVELS:,} levels, with "
            f"logits of their own for every prefix: lower T, or describe the world by TokenMDP.automaton"
        )


def check_nodes(states: int, horizon: int, calls: int) -> None:
    """Raise ValueError for an automaton of too many nodes, or too many calls of its reward function."""
    if states * horizon > MAX_NODES:
        raise ValueError(
            f"an automaton with Q = {states:,} states and T = {horizon:,} has Q T = {states * horizon:,} "
            f"nodes, more than MAX_NODES = {MAX_NODES:,}: lower Q or T"
        )
    if calls > MAX_PATHS:
        raise ValueError(
            f"a reward function would be called for {calls:,} pairs of state and length, more than MAX_PATHS "
            f"= {MAX_PATHS:,}; give the rewards as numbers [Q], or lower Q or T"
        )
