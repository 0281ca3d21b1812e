"""Token MDPs: how they are built, their graphs and policies, and the named worlds (catalogue.py)."""

from ticgrpo_theory.worlds.catalogue import LISTED as LISTED
from ticgrpo_theory.worlds.catalogue import WORLDS as WORLDS
from ticgrpo_theory.worlds.catalogue import Start as Start
from ticgrpo_theory.worlds.catalogue import World as World
from ticgrpo_theory.worlds.catalogue import Worlds as Worlds
from ticgrpo_theory.worlds.catalogue import all_ones as all_ones
from ticgrpo_theory.worlds.catalogue import bandit as bandit
from ticgrpo_theory.worlds.catalogue import bigram as bigram
from ticgrpo_theory.worlds.catalogue import count_mod_3 as count_mod_3
from ticgrpo_theory.worlds.catalogue import distinct_values as distinct_values
from ticgrpo_theory.worlds.catalogue import few_values as few_values
from ticgrpo_theory.worlds.catalogue import first_token as first_token
from ticgrpo_theory.worlds.catalogue import graded as graded
from ticgrpo_theory.worlds.catalogue import length_trap as length_trap
from ticgrpo_theory.worlds.catalogue import long_answers as long_answers
from ticgrpo_theory.worlds.catalogue import majority as majority
from ticgrpo_theory.worlds.catalogue import parity as parity
from ticgrpo_theory.worlds.catalogue import prompt_trap as prompt_trap
from ticgrpo_theory.worlds.catalogue import right_answer as right_answer
from ticgrpo_theory.worlds.catalogue import shared_row as shared_row
from ticgrpo_theory.worlds.catalogue import two_prompts as two_prompts
from ticgrpo_theory.worlds.catalogue import xor as xor
from ticgrpo_theory.worlds.catalogue import zeros_counted as zeros_counted
