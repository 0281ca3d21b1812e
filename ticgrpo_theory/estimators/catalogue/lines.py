"""All lines of the catalogue by name."""

import difflib

from ticgrpo_theory.estimators.catalogue.first import FIRST_LINES
from ticgrpo_theory.estimators.catalogue.sampler import SAMPLER_LINES
from ticgrpo_theory.estimators.catalogue.shaped import SHAPED_LINES
from ticgrpo_theory.estimators.catalogue.trl import TRL_LINES
from ticgrpo_theory.estimators.catalogue.verl import VERL_LINES
from ticgrpo_theory.estimators.catalogue.weighed import WEIGHED_LINES
from ticgrpo_theory.estimators.estimator import Estimator


class Catalogue(dict[str, Estimator]):
    """A dict whose missing names are answered with the nearest ones."""

    def __missing__(self, name: str) -> Estimator:
        if not isinstance(name, str):
            own = getattr(name, "__name__", "grpo")
            raise ValueError(f"unknown estimator {name!r}: names are strings, as in ESTIMATORS[{own!r}]")
        near = difflib.get_close_matches(name, self, n=3, cutoff=0.4) or sorted(self)
        raise ValueError(f"unknown estimator {name!r}; nearest names: {', '.join(near)}")


FACTORIES = (*FIRST_LINES, *SHAPED_LINES, *WEIGHED_LINES, *SAMPLER_LINES, *TRL_LINES, *VERL_LINES)

ESTIMATORS = Catalogue({factory.__name__: factory() for factory in FACTORIES})
FIRST = tuple(factory.__name__ for factory in FIRST_LINES)
"""Names of the lines that the paper under test writes or compares with."""
OF_ONE_GROUP = tuple(
    name
    for name, line in ESTIMATORS.items()
    if not line.reads_update and line.correction is None and line.penalty is None
)
"""Names of the lines that read one group and two policies, and nothing else."""
CITATIONS = {factory.__name__: " ".join((factory.__doc__ or "").split()) for factory in FACTORIES}


UNVERIFIED = {
    "fspo": (
        "arXiv:2509.09177 (FSPO)",
        "the constants of its band c sqrt(|s|), and the drift that v1 subtracts",
    ),
    "minpro range": ("arXiv:2601.22718 (MinPRO)", "its eps_low and eps_high; `minpro` has those of `dapo`"),
    "aspo by entropy": ("arXiv:2510.06062 (ASPO)", "which tokens count as those of high entropy"),
    "gpg of the paper": (
        "arXiv:2504.02546 (GPG)",
        "alpha by groups whose rewards differ; `verl_gpg` is verl's",
    ),
    "decoupled_k3_rs": (
        "verl, rollout correction",
        "nothing of the formula: no correction of the package has it",
    ),
}
"""What is no line, or not quite the published one: name -> (source, what is missing or was not verified)."""


def name_of(estimator: object) -> str:
    """The catalogue name of an estimator, else its axes in one line."""
    for name, entry in ESTIMATORS.items():
        if entry == estimator:
            return name
    describe = getattr(estimator, "describe", None)
    return describe() if describe is not None else repr(estimator)
