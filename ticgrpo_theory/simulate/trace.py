"""What a simulation gives back."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.simulate.settings import Adam, OfPolicy


@dataclass(frozen=True, eq=False)
class RunSettings:
    """With what the replicates of a trace were made, in the words of `simulate`."""

    world: str
    """`TokenMDP.digest` of the world as it was when the run began."""
    estimator: AnyEstimator
    group_size: int
    learning_rates: Float64[Tensor, " N"]
    """eta of every outer step."""
    inner_steps: int
    outer_steps: int
    batches: Batches
    """"reused" or "disjoint"; "reused" where K = 1, which makes no difference between them."""
    prompts_per_step: int
    optimizer: Adam | None
    theta_ref: Float64[Tensor, "S V"] | None
    seed: int
    first_replicate: int
    record_every: int
    engine: str
    """The engine that moved the replicates, "auto" resolved."""
    device: str
    dtype: torch.dtype
    sampler: OfPolicy | None = None
    """What draws the responses of theta_{n,0}; None: theta_{n,0} itself."""

    @property
    def learning_rate(self) -> float | None:
        """eta, or None where a schedule changed it."""
        first = float(self.learning_rates[0])
        return first if bool((self.learning_rates == first).all()) else None


@dataclass(frozen=True, eq=False)
class Trace:
    """R replicates of N outer steps: g_n = grad J(theta_{n,0}), Delta_n = theta_{n+1,0} - theta_{n,0}, n < N.

    Made by `simulate`, which raises ValueError for bad input. Ours; g_n is Eq. 4 of arXiv:2508.02833 v2,
    without a factor. Everything but the path itself is exact: J and grad J come from dynamic programming at
    the logits that were reached. A frozen replicate has NaN in the records after its last whole step, its
    sums end there, and `final_return` and `theta` are those of theta_{n,0} of the step it did not survive.
    """

    steps: Int[Tensor, " L"]
    """Outer steps n that were recorded: 0, record_every, 2 record_every, ..."""
    expected_return: Float[Tensor, "R L"]
    """J(theta_{n,0})."""
    gradient_norm_sq: Float[Tensor, "R L"]
    """||g_n||^2."""
    drift: Float[Tensor, "R L"]
    """||Delta_n||."""
    path: Float[Tensor, "R P S V"]
    """theta_{n,0} at the recorded steps, P = L, with `record_theta`; else P = 0."""
    initial_return: Float[Tensor, " R"]
    """J(theta_{0,0})."""
    final_return: Float[Tensor, " R"]
    """J(theta_{N,0})."""
    sum_gradient_dot_move: Float[Tensor, " R"]
    """sum over every n of <g_n, Delta_n>."""
    sum_move_norm_sq: Float[Tensor, " R"]
    """sum over every n of ||Delta_n||^2."""
    sum_gradient_dot_first: Float[Tensor, " R"]
    """sum over every n of <g_n, g_hat_{n,0}>, g_hat_{n,0} the gradient of the first inner step.

    Minus the same sum of expectations it has mean zero: a control variate for whatever is
    computed from J(theta_{N,0}).
    """
    sum_first_norm_sq: Float[Tensor, " R"]
    """sum over every n of ||g_hat_{n,0}||^2, whose expectation is the sum of second moments."""
    theta: Float[Tensor, "R S V"]
    """theta_{N,0}."""
    frozen: Int[Tensor, " R"]
    """The outer step in which a replicate became non-finite (NaN, logits beyond 1e150), or -1."""
    refusals: Mapping[int, str]
    """What the estimator said of frozen replicates, where it refused their weights; by row of the tensors."""
    settings: RunSettings
    """The request; a run taken up from its folder has those of the whole run."""
