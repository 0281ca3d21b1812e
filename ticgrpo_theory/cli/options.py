"""Options that several commands share.

Nothing is imported here that takes longer than a command line: `ticgrpo --help` does not wait for PyTorch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Words = tuple[tuple[str, ...], ...]
"""Words after an option, for each time that it is given."""


@dataclass(frozen=True)
class RequestFields:
    """Which estimators, in which world, with how many responses in a group."""

    world: str = "right-answer"
    """A name from `ticgrpo list`, a YAML file, or file.py:name or module:name of a world in Python."""
    estimator: Words = ()
    """Names from `ticgrpo list`, or file.py:name or module:name of an Estimator, of an objective(batch), of
    a loss(logp, logp_old, advantages, mask), or of a function that returns one of them. Without it: grpo and
    tic_grpo."""
    set: Words = ()
    """Parameters of the estimators, as in --set eps_high=0.3 delta=0; every estimator must take them."""
    group_size: int | Literal["inf"] = 8
    """Responses G in a group; inf for the limit, where that exists."""
    advantage: str | None = None
    """Of losses of four arguments: a name such as centred or 'standardised(delta=0)' from
    ticgrpo_theory.estimators.advantages, or file.py:name of a function of the rewards. Without it:
    standardised."""
    theta_ref: Path | None = None
    """Logits [S, V] of the reference policy, which penalties and objectives (batch.logp_ref) read: .npy, .pt,
    .json, .yaml or .csv. Without it: theta_old."""


@dataclass(frozen=True)
class Drawing:
    """Who draws the responses, where it is not theta_old itself, whose log-probabilities are called old."""

    sampler: str | None = None
    """What the engine that draws makes of theta_old, as in top_p=0.9,temperature=0.7: any of temperature,
    min_p, top_k and top_p, in the order of vLLM, and before them noise, seed and bfloat16."""
    theta_sampler: Path | None = None
    """Logits [S, V] of the policy that draws, instead: .npy, .pt, .json, .yaml or .csv; -inf: never drawn."""


@dataclass(frozen=True)
class Updates:
    """How many groups an update has, and what an objective or a loss of one's own is given of it."""

    prompts: Annotated[str | None, tyro.conf.arg(metavar="P|each")] = None
    """Groups of an update: P of them, the prompt of each drawn by its weight, or `each`, every prompt once,
    whatever the weights. Without it: one group of a prompt that is drawn."""
    scope: Literal["group", "batch"] = "group"
    """What an objective(batch) or a loss is given: one group at a time, or the batch of all rows of the
    update, where batch.group says which group a row belongs to."""


@dataclass(frozen=True)
class Drift:
    """How far theta is from theta_old, the start of the world, from which the groups are drawn."""

    inner_steps: int = 0
    """Steps k that each estimator has gone along its own mean, theta += eta E[g_hat]."""
    learning_rate: float = 0.1
    """Step size eta."""
    theta: Path | None = None
    """Logits [S, V] of theta, instead of steps: .npy, .pt, .json, .yaml or .csv."""


@dataclass(frozen=True)
class Listing:
    """How the sum over groups is carried out."""

    method: Literal["auto", "dynamic_programming", "enumeration", "groups", "enclosure", "sampled"] = "auto"
    """auto takes the cheapest that is exact, and says which; where none is affordable it draws groups, as
    sampled does, and says so with 99 % intervals."""
    symmetric: Literal["check", "yes", "no"] = "check"
    """Whether multisets may stand for the ordered groups of an estimator that declares nothing: checked on
    every one of them, trusted, or not, so that ordered groups are listed."""
    limit: int | None = None
    """Most groups of such an estimator that may be listed, or drawn; 2^18 unless told otherwise."""
    tolerance: float | None = None
    """Half width at which sampling stops, relative to ||E g||; 0.02 unless told otherwise."""
    seed: int = 0
    """Of the groups that are drawn."""

    def ordered(self) -> bool | None:
        """`symmetric` as the library takes it."""
        return {"check": None, "yes": True, "no": False}[self.symmetric]


@dataclass(frozen=True)
class Runs:
    """What is simulated, in the words of `ticgrpo_theory.simulate`."""

    learning_rate: float = 0.1
    """Step size eta."""
    inner_steps: int = 4
    """Steps K between two refreshes of theta_old."""
    outer_steps: int = 100
    """Refreshes N of theta_old."""
    replicates: int = 64
    """Independent runs; an interval needs at least 2."""
    seed: int = 0
    """Of all random numbers."""
    batches: Literal["reused", "disjoint"] = "reused"
    """One group for all inner steps, or a new one for each."""
    prompts_per_step: int = 1
    """Groups whose gradients are averaged in each inner step."""
    sampler: str | None = None
    """What the engine that draws makes of theta_old, anew at every outer step, as in
    top_p=0.9,temperature=0.7: any of temperature, min_p, top_k and top_p, in the order of vLLM, and before
    them noise, seed and bfloat16."""
    device: str = "cpu"
    """cpu, or cuda where there is a GPU."""


Flat = tyro.conf.arg(name="")
"""Options of a dataclass without its name before them."""

REQUEST, DRIFT, ONE_STEP, LISTING = RequestFields(), Drift(), Drift(inner_steps=1), Listing()
DRAWING, UPDATES = Drawing(), Updates()
RUNS = Runs()
RequestOptions = Annotated[RequestFields, Flat]
DrawingOptions = Annotated[Drawing, Flat]
UpdateOptions = Annotated[Updates, Flat]
DriftOptions = Annotated[Drift, Flat]
ListingOptions = Annotated[Listing, Flat]
RunOptions = Annotated[Runs, Flat]
