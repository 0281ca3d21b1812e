"""The public names of worlds.mdp, where users have them."""

from ticgrpo_theory.worlds.mdp import MAX_RESPONSES as MAX_RESPONSES
from ticgrpo_theory.worlds.mdp import TokenMDP as TokenMDP
