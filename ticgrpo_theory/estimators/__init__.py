"""The estimator algebra: an estimator is one choice on each axis (estimator.py); brands: catalogue/."""

from ticgrpo_theory.estimators.catalogue import ESTIMATORS as ESTIMATORS
from ticgrpo_theory.estimators.estimator import Estimator as Estimator
