"""worlds/interrupts.py, and sums that take long: Ctrl-C is answered within two seconds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.thinned import only
from ticgrpo_theory.worlds.interrupts import interruptible

ROOT = Path(__file__).parents[3]

# Each begins with a small sum of its kind, so that everything is compiled, and says when the long one begins.
LATTICE = """
import numpy as np
from ticgrpo_theory.estimators.advantages import centred
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact.groups.conditional import conditional_advantages
from ticgrpo_theory.exact.groups.outcomes import outcomes

def long(G):
    rewards, prob = np.arange(5) / 8, np.full(5, 0.2)
    say(G)
    conditional_advantages(outcomes(centred(), sequence_sum, rewards, np.ones(5), prob, G, None))

small, large = 100, 20_000
"""
COUNTS = LATTICE.replace("np.arange(5) / 8", "np.sqrt(np.arange(5))").replace("centred", "standardised")
COUNTS = COUNTS.replace("small, large = 100, 20_000", "small, large = 4, 230")
PAIRS = """
import numpy as np
from ticgrpo_theory.exact import gradient_moments
from ticgrpo_theory.exact.moments import moment_kernels
from ticgrpo_theory.mdp import TokenMDP

compiled = moment_kernels.pairs

def pairs(layers, *args):
    say(layers.width.size)
    compiled(layers, *args)

moment_kernels.pairs = pairs

def long(T):
    rng = np.random.default_rng(0)
    moves = rng.integers(0, 300, (300, 30)).tolist()
    mdp = TokenMDP.automaton(moves, 30, T, rng.random(300).tolist(), rows=list(range(300)))
    gradient_moments(mdp, np.zeros((300, 30)), 0.1 * rng.random((300, 30)), "rloo", 4)

small, large = 2, 100
"""
RUN = """
import os

def say(size):
    if size == large:
        print("begun", flush=True)

try:
    long(small)
    long(large)
    print("done", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize(
    "program", only([LATTICE], [LATTICE, COUNTS, PAIRS]), ids=["lattice", "counts", "pairs"]
)
def test_a_long_sum_answers_an_interrupt_within_two_seconds(program):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = [sys.executable, "-c", program + RUN]
    with subprocess.Popen(started, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline().strip() == "begun"
            time.sleep(1.0)
            sent = time.monotonic()
            run.send_signal(signal.SIGINT)
            assert run.stdout.readline().strip() == "interrupted"
            assert time.monotonic() - sent < 2.0
        finally:
            run.kill()


def test_an_interruptible_call_gives_what_the_call_gives():
    assert interruptible(divmod, 7, 2) == (3, 1)


def test_an_interruptible_call_raises_what_the_call_raises():
    with pytest.raises(ZeroDivisionError):
        interruptible(divmod, 7, 0)


def test_an_interrupt_leaves_a_call_that_goes_on():
    with pytest.raises(KeyboardInterrupt):
        interruptible(interrupt_and_go_on)


def interrupt_and_go_on() -> None:
    """A second of work, in which the main thread is interrupted."""
    signal.raise_signal(signal.SIGINT)
    time.sleep(1.0)
