"""Weighted least squares with intervals: y = sum_i coefficient_i term_i + noise of known standard error.

    coefficients = (X' W X)^-1 X' W y,   covariance (X' W X)^-1,   W = diag(1 / standard_error^2)

Where chi^2 exceeds its degrees of freedom the model misses more than noise does, and errors are widened by
sqrt(chi^2 / freedom) (the Birge ratio, Physical Review 40 (1932) 207).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import special

from ticgrpo_theory.stats.intervals import CONFIDENCE

SINGULAR = 1e-10
"""Least singular value, relative to the largest, of terms that can be told apart (columns scaled to 1)."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Coefficients by name, with half widths of their 95 % intervals."""

    coefficient: Mapping[str, float]
    half: Mapping[str, float]
    chi_square: float
    freedom: int

    def excludes_zero(self, term: str) -> bool:
        return abs(self.coefficient[term]) > self.half[term]

    def shown(self, term: str) -> str:
        return f"{self.coefficient[term]:+.2e} ± {self.half[term]:.1e}"


def weighted_fit(
    terms: Mapping[str, Float64[np.ndarray, " n"]],
    y: Float64[np.ndarray, " n"],
    standard_error: Float64[np.ndarray, " n"],
) -> Fit:
    """The weighted least-squares fit of y on the terms.

    Raises ValueError for standard errors that are not positive, for as many terms as points, and for terms
    that the points cannot tell apart.
    """
    names = list(terms)
    if not bool((standard_error > 0).all()):
        raise ValueError(f"standard errors {standard_error}: weights are 1 / error^2, so each must be > 0")
    if len(y) <= len(names):
        raise ValueError(f"{len(y)} points for the {len(names)} terms {names}: add points or drop terms")
    scaled = np.column_stack([terms[name] for name in names]) / standard_error[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    left, singular, right = np.linalg.svd(scaled / norms, full_matrices=False)
    if singular[-1] <= SINGULAR * singular[0]:
        raise ValueError(
            f"the {len(y)} points cannot tell the terms {names} apart (singular values down to "
            f"{singular[-1]:.0e}): vary eta K and G independently, or drop a term"
        )
    inverse = right.T / singular / norms[:, None]
    found = inverse @ (left.T @ (y / standard_error))
    chi_square = float(np.square(y / standard_error - scaled @ found).sum())
    freedom = len(y) - len(names)
    width = float(special.ndtri(0.5 + CONFIDENCE / 2)) * math.sqrt(max(1.0, chi_square / freedom))
    half = width * np.linalg.norm(inverse, axis=1)
    return Fit(
        coefficient=dict(zip(names, found.tolist(), strict=True)),
        half=dict(zip(names, half.tolist(), strict=True)),
        chi_square=chi_square,
        freedom=freedom,
    )


def log_slope(
    x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"], standard_error: Float64[np.ndarray, " n"]
) -> Fit:
    """log y = slope log x + level; errors of y are small beside y. Raises ValueError where x or y <= 0."""
    if not bool((x > 0).all() and (y > 0).all()):
        raise ValueError(f"x = {x}, y = {y}: a power law needs positive values; leave the others out")
    terms = {"slope": np.log(x), "level": np.ones_like(x)}
    return weighted_fit(terms, np.log(y), standard_error / y)
