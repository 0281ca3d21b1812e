"""Numbers without noise: expectations, moments and decompositions of estimators on token MDPs."""

from ticgrpo_theory.exact.answers import Problem as Problem
from ticgrpo_theory.exact.decomposition.expected_terms import decompose as decompose
from ticgrpo_theory.exact.dynamic.shared_row import correction_mass as correction_mass
from ticgrpo_theory.exact.expectation import expected_gradient as expected_gradient
from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments as gradient_moments
from ticgrpo_theory.exact.objective import expected_return as expected_return
from ticgrpo_theory.exact.objective import policy_gradient as policy_gradient
from ticgrpo_theory.exact.reuse.followed_groups import reuse_bias as reuse_bias
