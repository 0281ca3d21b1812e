"""The public names of estimators.batch, where users have them."""

from ticgrpo_theory.estimators.batch import Batch as Batch
