"""Odd inputs of the builders of worlds: sizes, rewards, transitions, rows, prompts."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.unit.odd_cases import Odd
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.mdp import TokenMDP


def tree(**changes: Any) -> Callable[[], TokenMDP]:
    arguments = {"vocab_size": 2, "horizon": 2, "reward": [1.0, 0.0, 0.0, 1.0]} | changes
    return lambda: TokenMDP.prefix_tree(**arguments)


def rows_of(make: Callable[[], TokenMDP]) -> Callable[[], int]:
    return lambda: make().num_rows


def automaton(**changes: Any) -> Callable[[], TokenMDP]:
    """Counts tokens 0 up to 2; the reward is 1 at 1."""
    arguments = {
        "transition": [[1, 0], [2, 1], [2, 2]],
        "vocab_size": 2,
        "horizon": 3,
        "reward": [0.0, 1.0, 0.0],
    } | changes
    return lambda: TokenMDP.automaton(**arguments)


def uniform(make: Callable[[], TokenMDP]) -> Callable[[], float]:
    """J at equal logits."""

    def J() -> float:
        mdp = make()
        return expected_return(mdp, torch.zeros(mdp.num_rows, mdp.vocab_size, dtype=torch.float64))

    return J


def prompts(mdps: Any = None, weights: Any = (0.5, 0.5), share_rows: Any = True) -> Callable[[], TokenMDP]:
    return lambda: TokenMDP.mixture(mdps or [tree()(), tree()()], weights, share_rows=share_rows)


def raising(response: tuple[int, ...]) -> float:
    return 1.0 if response != (1, 0) else {}["no such key"]


def at(response: tuple[int, ...], value: Any) -> Callable[[tuple[int, ...]], Any]:
    """`value` for one response, 0 for the others."""
    return lambda found: value if found == response else 0.0


def pair(state: int, length: int, value: Any) -> Callable[[int, int], Any]:
    return lambda q, n: value if (q, n) == (state, length) else 0.0


WHOLE = r"must be a whole number"
SIZES = {
    "V as a NumPy integer": Odd(rows_of(tree(vocab_size=np.int64(2))), 3.0),
    "T as a NumPy integer": Odd(rows_of(tree(horizon=np.int32(2))), 3.0),
    "sizes of an automaton as NumPy integers": Odd(
        uniform(automaton(vocab_size=np.int64(2), horizon=np.uint8(3), start=np.int64(0))), 0.375
    ),
    "V as a float": Odd(tree(vocab_size=2.0), rf"vocab_size = 2.0 {WHOLE} >= 1"),
    "V as a string": Odd(tree(vocab_size="2"), rf"vocab_size = '2' {WHOLE} >= 1"),
    "V as a bool": Odd(tree(vocab_size=True), rf"vocab_size = True {WHOLE} >= 1"),
    "V = 0": Odd(tree(vocab_size=0), "vocab_size = 0, horizon = 2: both must be at least 1"),
    "T as a float": Odd(tree(horizon=2.5), rf"horizon = 2.5 {WHOLE} >= 1"),
    "T is None": Odd(tree(horizon=None), rf"horizon = None {WHOLE} >= 1"),
    "T of an automaton as a string": Odd(automaton(horizon="3"), rf"horizon = '3' {WHOLE} >= 1"),
    "EOS as a float": Odd(tree(eos=1.0), rf"eos = 1.0 {WHOLE} >= 0.*eos=None"),
    "EOS as a string": Odd(tree(eos="1"), rf"eos = '1' {WHOLE} >= 0.*eos=None"),
    "EOS as a bool": Odd(tree(eos=True), rf"eos = True {WHOLE} >= 0.*eos=None"),
    "EOS outside": Odd(tree(eos=2), r"eos = 2 is outside the vocabulary 0\.\.1: name one of its tokens"),
    "one token and ten million steps": Odd(
        tree(vocab_size=1, horizon=10**7, reward=[1.0]),
        r"horizon = 10,000,000 .* more than MAX_HORIZON = .*: lower T",
    ),
    "a tree of thousands of digits": Odd(tree(vocab_size=10, horizon=10**6), "lower T, or describe"),
}

NO_NUMBER = r"is no number"
REWARDS = {
    "a reward function that raises": Odd(
        tree(reward=raising),
        r"reward\(\(1, 0\)\) raised KeyError: 'no such key'.*odd_worlds.py.*return a number",
    ),
    "a reward function that returns None": Odd(
        tree(reward=at((0, 1), None)), rf"reward\(\(0, 1\)\) = None {NO_NUMBER}.*return"
    ),
    "a reward function that returns NaN": Odd(
        tree(reward=at((0, 1), math.nan)),
        r"reward\(\(0, 1\)\) = nan is not finite: the reward of every response must be",
    ),
    "a reward function that returns infinity": Odd(
        tree(reward=at((1, 1), -math.inf)),
        r"reward\(\(1, 1\)\) = -inf is not finite: the reward of every response must be",
    ),
    "a reward function that returns a string": Odd(
        tree(reward=at((1, 1), "1")), rf"reward\(\(1, 1\)\) = '1' {NO_NUMBER}.*return"
    ),
    "a reward function that returns a complex number": Odd(
        tree(reward=at((1, 1), 1j)), rf"reward\(\(1, 1\)\) = 1j {NO_NUMBER}.*return"
    ),
    "a reward function that returns two numbers": Odd(
        tree(reward=at((1, 1), np.ones(2))), rf"reward\(\(1, 1\)\) = array.* {NO_NUMBER}.*return"
    ),
    "a reward function that returns bools": Odd(uniform(tree(reward=lambda y: y[0] == y[1])), 0.5),
    "a reward function that returns tensors": Odd(
        uniform(tree(reward=lambda y: torch.tensor(float(y[0] == y[1])))), 0.5
    ),
    "a reward function of two arguments for a tree": Odd(
        tree(reward=lambda state, length: 0.0), r"reward\(\(0, 0\)\) raised TypeError.*return a number"
    ),
    "a reward of an automaton that returns None": Odd(
        automaton(reward=pair(1, 3, None)), rf"reward\(1, 3\) = None {NO_NUMBER}.*return"
    ),
    "a reward of an automaton that returns NaN": Odd(
        automaton(reward=pair(2, 3, math.nan)),
        r"reward\(2, 3\) = nan is not finite: the reward of every response must be",
    ),
    "a reward of an automaton that raises": Odd(
        automaton(reward=lambda q, n: 1 / q), r"reward\(0, 3\) raised ZeroDivisionError.*return a number"
    ),
    "rewards that are strings": Odd(tree(reward=list("1001")), r"reward\[0\] = '1' is no number.*give"),
    "one string of rewards": Odd(tree(reward="1001"), r"reward = '1001' is no number.*give"),
    "rewards that are complex": Odd(
        tree(reward=np.array([1, 0, 0, 1j])), r"reward\[0\] = \(1\+0j\) is no number.*give"
    ),
    "rewards with a None": Odd(tree(reward=[1.0, None, 0.0, 0.0]), r"reward\[1\] = None is no number.*give"),
    "ragged rewards": Odd(tree(reward=[1.0, [0.0], 0.0, 0.0]), r"reward\[1\] = \[0.0\] is no number.*give"),
    "rewards in a dict": Odd(tree(reward={(0, 0): 1.0}), r"reward = \{\(0, 0\): 1.0\} is no number.*give"),
    "rewards with a graph": Odd(uniform(tree(reward=torch.ones(4, requires_grad=True))), 1.0),
    "sparse rewards": Odd(uniform(tree(reward=torch.ones(4).to_sparse())), 1.0),
    "rewards that are integers": Odd(uniform(tree(reward=np.array([1, 0, 0, 1]))), 0.5),
    "no rewards": Odd(tree(reward=None), r"reward = None is no number.*give"),
}

AUTOMATA = {
    "start as a float": Odd(automaton(start=1.0), rf"start = 1.0 {WHOLE}.*0\.\.2"),
    "start as a string": Odd(automaton(start="1"), rf"start = '1' {WHOLE}.*0\.\.2"),
    "start as a bool": Odd(automaton(start=True), rf"start = True {WHOLE}.*0\.\.2"),
    "start as a NumPy integer": Odd(uniform(automaton(start=np.int64(1))), 0.125),
    "a row far beyond the others": Odd(
        automaton(rows=[0, 1, 10**9]),
        r"rows\[2\] = 1,000,000,000 .* MAX_ROWS = .*number the rows 0, 1, \.\.\., at most 8",
    ),
    "an automaton of 10^12 steps": Odd(
        automaton(horizon=10**12), r"horizon = 1,000,000,000,000 is more than MAX_HORIZON = .*lower T"
    ),
    "rows as floats": Odd(automaton(rows=[0.0, 1.0, 2.0]), "rows has shape .* type float64; give 'state'"),
    "rows that are None": Odd(automaton(rows=None), r"rows = None.*give 'state', 'time_state'"),
    "ragged rows": Odd(automaton(rows=[0, [1], 2]), r"rows = \[0, \[1\], 2\].*give 'state', 'time_state'"),
    "rows as bools": Odd(automaton(rows=[True, False, True]), "rows has shape .* type bool; give 'state'"),
    "a ragged transition": Odd(
        automaton(transition=[[1, 0], [2]]), r"transition = \[\[1, 0\], \[2\]\].*must be \[Q, V\]"
    ),
    "a transition of strings": Odd(
        automaton(transition=[["a", "b"]]), r"transition and start = 0 must be integers in 0\.\.0"
    ),
    "a transition of bools": Odd(
        automaton(transition=[[True, False], [True, True]], reward=[0.0, 1.0]),
        r"transition and start = 0 must be integers in 0\.\.1",
    ),
    "no transition": Odd(automaton(transition=None), r"transition has shape \(\); it must be \[Q, V\]"),
}

MIXTURES = {
    "share_rows as a word": Odd(prompts(share_rows="no"), r"share_rows = 'no'.*give True.*or False"),
    "share_rows as a number": Odd(prompts(share_rows=0), r"share_rows = 0.*give True.*or False"),
    "share_rows that is None": Odd(prompts(share_rows=None), r"share_rows = None.*give True.*or False"),
    "weights as strings": Odd(prompts(weights=["a", "b"]), r"weights = \['a', 'b'\].*one positive weight"),
    "weights that are None": Odd(prompts(weights=None), r"weights = None.*one positive weight"),
    "weights that are counts": Odd(prompts(weights=[1, 1]), r"weights = \[1.0, 1.0\] .*divide by their sum"),
    "a world that is none": Odd(
        prompts(["xor", "bandit"]), r"prompt 0 = 'xor' is no TokenMDP: give WORLDS\['xor'\]\.build\(\)"
    ),
    "one world instead of a list": Odd(
        lambda: prompts(tree()(), [1.0])(), r"mdps = <.*give a list of worlds"
    ),
}

WORLDS = {**SIZES, **REWARDS, **AUTOMATA, **MIXTURES}
