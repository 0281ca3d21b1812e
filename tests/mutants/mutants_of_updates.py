"""Mistakes in whole updates: what is divided by what, and how prompts are mixed."""

from functools import partial

from tests.mutants.mutants import Mutant
from tests.unit.exact.updates import test_update_callables, test_update_reference, test_update_statements
from ticgrpo_theory.estimators import updates
from ticgrpo_theory.estimators.advantage import UpdateAdvantage
from ticgrpo_theory.estimators.advantages import token_whitened
from ticgrpo_theory.exact.updates.every_update import EveryUpdate
from ticgrpo_theory.exact.updates.one_row import shares
from ticgrpo_theory.exact.updates.one_row.token_means import TokenMeans


def row(number: int, method: str = "enumeration") -> partial:
    """The check of one row of the table of reference numbers."""
    return partial(test_update_reference.check_row, number, method)


UPDATES = [
    Mutant(
        "responses of a group choose their prompts one by one",
        TokenMeans.rest,
        "np.tensordot(weights, np.stack(each), 1) ** (self.update.P - 1)",
        "np.tensordot(weights, np.stack([g.Phi for g in self.groups]), 1)"
        " ** (self.update.G * (self.update.P - 1))",
        test_update_statements.check_mixing_by_group,
    ),
    Mutant(
        "the own group among the others",
        TokenMeans.rest,
        "(self.update.P - 1)",
        "self.update.P",
        row(2),
    ),
    Mutant(
        "micro-batches added up instead of averaged",
        TokenMeans.placed,
        "scale.rows / self.update.B",
        "1.0",
        row(5),
    ),
    Mutant(
        "new prompts weighed as if the same ones were tried again",
        shares.factors,
        "[1 / float(update.weights @ chances)] * len(rows)",
        "(1 / chances).tolist()",
        row(12),
    ),
    Mutant(
        "the same prompt tried again weighed as if new ones were drawn",
        shares.factors,
        "(1 / chances).tolist()",
        "[1 / float(update.weights @ chances)] * len(rows)",
        row(13),
    ),
    Mutant(
        "dropped groups counted in the normaliser",
        shares.factors,
        "[update.P * mean_of_inverse(p) for p in others]",
        "[1.0] * len(rows)",
        row(14),
    ),
    Mutant("divisor n in place of n - 1", UpdateAdvantage.of_moments, "count - self.ddof", "count", row(8)),
    Mutant(
        "every response whitened alike, however long",
        token_whitened.over,
        "length * kept",
        "kept.expand_as(reward)",
        row(7, "groups"),
    ),
    Mutant(
        "groups added up instead of averaged",
        updates.scales_of_update,
        " / groups[..., None, None]",
        "",
        row(6, "groups"),
    ),
    Mutant(
        "order of the groups not checked",
        EveryUpdate.reorderings,
        "not self.update.each and P > 1",
        "False",
        partial(test_update_callables.check_order, test_update_callables.first_group_only),
    ),
]
