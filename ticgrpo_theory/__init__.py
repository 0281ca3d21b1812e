"""Policy-gradient estimators of language-model training, measured without sampling noise.

What a user imports, from here or from the module beside it:

    TokenMDP                            .mdp           a world whose responses can all be listed
    WORLDS, World                       .worlds        the named worlds, each with its reason
    ESTIMATORS, Estimator               .estimators    GRPO, DAPO, GSPO, ...: one choice on each axis
    Batch                               .batch         what an objective of one's own is called with
    expected_return, policy_gradient    .exact         J and grad J
    expected_gradient                   .exact         E[g_hat], over all groups of responses
    gradient_moments                    .exact         its variance and mean squared error
    reuse_bias                          .exact         its bias when one group is used K times
    decompose                           .exact         the terms of Eq. 7 and 11 of arXiv:2508.02833 v2
    Trace, Adam                         .simulate      a simulated run, and an optimiser for it
    instance_constants                  .bounds        L, rho, d_max, ... of an instance
    check_c0, check_c1, check_c2        .bounds        inequalities that a run must satisfy (a Check)
    theorem_1, theorem_2                .bounds        the convergence bounds, with constants
    check_loss, assert_loss             .check         what does a loss estimate? a Report, or an error
    Report                              .check         its rows and its sentence

`simulate` is the name of a module too: `from ticgrpo_theory.simulate import simulate`.

theta and theta_old are logits [S, V], float64; a table that is returned is a detached float64 tensor [S, V]
on the CPU. Returns are in the units of the rewards, gradients in those of rewards per logit. Bad input is a
ValueError that names the value, the limit and the way out.

Names are imported when they are first used, so that this package itself takes no time.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:  # read by type checkers; `typing` itself would take longer to import than this package
    from ticgrpo_theory.bounds.certificates import Check as Check
    from ticgrpo_theory.bounds.certificates import check_c0 as check_c0
    from ticgrpo_theory.bounds.certificates import check_c1 as check_c1
    from ticgrpo_theory.bounds.constants import instance_constants as instance_constants
    from ticgrpo_theory.bounds.expected_steps import check_c2 as check_c2
    from ticgrpo_theory.bounds.theorems import theorem_1 as theorem_1
    from ticgrpo_theory.bounds.theorems import theorem_2 as theorem_2
    from ticgrpo_theory.check.card import assert_loss as assert_loss
    from ticgrpo_theory.check.card import check_loss as check_loss
    from ticgrpo_theory.check.report import Report as Report
    from ticgrpo_theory.estimators.batch import Batch as Batch
    from ticgrpo_theory.estimators.catalogue import ESTIMATORS as ESTIMATORS
    from ticgrpo_theory.estimators.estimator import Estimator as Estimator
    from ticgrpo_theory.exact.decomposition.expected_terms import decompose as decompose
    from ticgrpo_theory.exact.expectation import expected_gradient as expected_gradient
    from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments as gradient_moments
    from ticgrpo_theory.exact.objective import expected_return as expected_return
    from ticgrpo_theory.exact.objective import policy_gradient as policy_gradient
    from ticgrpo_theory.exact.reuse.followed_groups import reuse_bias as reuse_bias
    from ticgrpo_theory.simulate.settings import Adam as Adam
    from ticgrpo_theory.simulate.trace import Trace as Trace
    from ticgrpo_theory.version import VERSION
    from ticgrpo_theory.worlds.catalogue import WORLDS as WORLDS
    from ticgrpo_theory.worlds.catalogue import World as World
    from ticgrpo_theory.worlds.mdp import TokenMDP as TokenMDP

    __version__ = VERSION

NAMES = {
    "TokenMDP": "mdp",
    "WORLDS": "worlds",
    "World": "worlds",
    "ESTIMATORS": "estimators",
    "Estimator": "estimators",
    "Batch": "batch",
    "expected_return": "exact",
    "policy_gradient": "exact",
    "expected_gradient": "exact",
    "gradient_moments": "exact",
    "reuse_bias": "exact",
    "decompose": "exact",
    "Trace": "simulate",
    "Adam": "simulate",
    "Check": "bounds",
    "check_c0": "bounds",
    "check_c1": "bounds",
    "check_c2": "bounds",
    "instance_constants": "bounds",
    "theorem_1": "bounds",
    "theorem_2": "bounds",
    "check_loss": "check",
    "assert_loss": "check",
    "Report": "check",
}
"""Every public name, and the module that a user may as well import it from."""

MODULES = frozenset(NAMES.values())

__all__ = sorted(NAMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    """A public name or module, imported now (PEP 562). Raises AttributeError for any other name."""
    if name in NAMES:
        found = getattr(import_module(f"{__name__}.{NAMES[name]}"), name)
    elif name in MODULES:
        return import_module(f"{__name__}.{name}")
    elif name == "__version__":
        found = import_module(f"{__name__}.version").VERSION
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *NAMES, *MODULES, "__version__"})
