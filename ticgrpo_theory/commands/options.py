"""Options that several commands share.

Nothing is imported here that takes longer than a command line: `ticgrpo --help` does not wait for PyTorch.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

Words = tuple[tuple[str, ...], ...]
"""Words after an option, for each time that it is given."""


@dataclass(frozen=True)
class Asked:
    """Which estimators, in which world, with how many responses in a group."""

    world: str = "right-answer"
    """A name from `ticgrpo list`, a YAML file, or file.py:name or module:name of a world in Python."""
    estimator: Words = ()
    """Names from `ticgrpo list`, or file.py:name or module:name of an Estimator, of an objective(batch), or
    of a function that returns one of them. Without it: grpo and tic_grpo."""
    set: Words = ()
    """Parameters of the estimators, as in --set eps_high=0.3 delta=0; every estimator must take them."""
    group_size: int | Literal["inf"] = 8
    """Responses G in a group; inf for the limit, where that exists."""


@dataclass(frozen=True)
class Drift:
    """How far theta is from theta_old, the start of the world, from which the groups are drawn."""

    inner_steps: int = 0
    """Steps k that each estimator has gone along its own mean, theta += eta E[g_hat]."""
    learning_rate: float = 0.1
    """Step size eta."""


Method = Literal["auto", "dynamic_programming", "enumeration", "groups"]

Flat = tyro.conf.arg(name="")
"""Options of a dataclass without its name before them."""

ASKED, DRIFT, ONE_STEP = Asked(), Drift(), Drift(inner_steps=1)
AskedOptions = Annotated[Asked, Flat]
DriftOptions = Annotated[Drift, Flat]
