"""Algorithms 1 and 2 of arXiv:2508.02833 v2, simulated for many replicates at once."""

from ticgrpo_theory.simulate.algorithm import simulate as simulate
from ticgrpo_theory.simulate.settings import Adam as Adam
from ticgrpo_theory.simulate.trace import RunSettings as RunSettings
from ticgrpo_theory.simulate.trace import Trace as Trace
