"""Numbers without noise: expectations, moments and decompositions of estimators on token MDPs."""

from ticgrpo_theory.exact.decomposition import decompose as decompose
from ticgrpo_theory.exact.expectation import expected_gradient as expected_gradient
from ticgrpo_theory.exact.moments import gradient_moments as gradient_moments
from ticgrpo_theory.exact.objective import expected_return as expected_return
from ticgrpo_theory.exact.objective import policy_gradient as policy_gradient
from ticgrpo_theory.exact.reuse import reuse_bias as reuse_bias
