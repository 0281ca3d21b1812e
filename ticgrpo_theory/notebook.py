"""The public names of experiment.notebook, where users have them."""

from ticgrpo_theory.experiment.notebook import RESULTS as RESULTS
from ticgrpo_theory.experiment.notebook import ROOT as ROOT
from ticgrpo_theory.experiment.notebook import TABLES as TABLES
from ticgrpo_theory.experiment.notebook import picture as picture
from ticgrpo_theory.experiment.notebook import published_curves as published_curves
from ticgrpo_theory.experiment.notebook import rows as rows
from ticgrpo_theory.experiment.notebook import say as say
from ticgrpo_theory.experiment.notebook import script as script
from ticgrpo_theory.experiment.notebook import show as show
from ticgrpo_theory.experiment.notebook import table as table
