"""Mistakes in whole updates: what is divided by what, and how prompts are mixed."""

from functools import partial

from tests.mutants.mutants import Mutant
from tests.unit.exact.updates import (
    test_micro_batches,
    test_statistics_spread,
    test_update_callables,
    test_update_reference,
    test_update_statements,
)
from ticgrpo_theory.estimators import updates
from ticgrpo_theory.estimators.advantage import SpreadAdvantage
from ticgrpo_theory.estimators.advantages import batch_standardised, token_whitened
from ticgrpo_theory.estimators.clipping import two_sided
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact.groups.token_means import Tilted
from ticgrpo_theory.exact.updates import spreads, token_mean_spread
from ticgrpo_theory.exact.updates.every_update import EveryUpdate
from ticgrpo_theory.exact.updates.micro_batches import MicroBatches
from ticgrpo_theory.exact.updates.one_row import shares
from ticgrpo_theory.exact.updates.one_row.token_means import TokenMeans
from ticgrpo_theory.exact.updates.one_row.token_statistics import OfTokens
from ticgrpo_theory.exact.updates.two_rows.pair_tables import OfAllRowsPairs, Others
from ticgrpo_theory.exact.updates.two_rows.statistics_spread import PairsOfRows
from ticgrpo_theory.exact.updates.two_rows.two_tilts import TwoTilts


def row(number: int, method: str = "enumeration") -> partial:
    """The check of one row of the table of reference numbers."""
    return partial(test_update_reference.check_row, number, method)


def pairs(name: str, prompts: int | str) -> partial:
    """The check of one variance by pairs of rows against every update."""
    clip = two_sided(0.1, 0.2)
    return partial(test_statistics_spread.check_every_update, name, token, clip, prompts)


THREE = partial(
    test_statistics_spread.check_three_in_a_group, "lattice", batch_standardised(), sequence_mean, 2
)

UPDATES = [
    Mutant(
        "two rows of a group beside one mate too many",
        OfAllRowsPairs.one_and_same,
        "sums.plus_times(rest, one, G - 2)",
        "sums.plus_times(rest, one, G - 1)",
        THREE,
    ),
    Mutant(
        "two rows of different groups without their mates",
        OfAllRowsPairs.apart,
        "mates = self.update.G - 1",
        "mates = 0",
        pairs("batch", 2),
    ),
    Mutant(
        "pairs of different prompts counted once",
        PairsOfRows.pairs,
        "1.0 if q == other else 2.0",
        "1.0",
        pairs("batch", "each"),
    ),
    Mutant(
        "the third group left out of the rest of two",
        Others.but_two,
        "update.P - 2",
        "0",
        pairs("spread", 3),
    ),
    Mutant(
        "one over the square of all tokens as one over them",
        PairsOfRows.nodes.func,
        "float(w * at * B**2)",
        "float(w * B)",
        pairs("batch, tokens", 2),
    ),
    Mutant(
        "a whitened token mean without its normaliser",
        OfTokens.advantages_at,
        "self.update.B / alive if self.update.axes.scale is batch_token_mean else 1.0",
        "1.0",
        pairs("whitened, tokens", 2),
    ),
    Mutant(
        "two rows of a group in one micro-batch beside one mate too many",
        TwoTilts.same,
        "k - 2",
        "k - 1",
        partial(test_micro_batches.check_cut, 3, (0, 3, 4, 1, 2, 5), 2),
    ),
    Mutant(
        "a row of a pair beside mates that leave the other one out",
        TwoTilts.products.func,
        "self.A[:, :, offset:]",
        "self.A[:, :, : N - offset]",
        partial(test_micro_batches.check_cut, 2, "in_order", 2),
    ),
    Mutant(
        "a group paired with itself as with another one",
        MicroBatches.between,
        "(number - (first == second))",
        "number",
        partial(test_micro_batches.check_random_order, 2, 3, 2),
    ),
    Mutant(
        "micro-batches of a random order as if they were independent",
        MicroBatches.shuffled,
        "(1 - 1 / M) * between",
        "(1 - 1 / M) * within",
        partial(test_micro_batches.check_random_order, 2, "each", 2),
    ),
    Mutant(
        "prompts of updates that are filled up weighed as they are drawn",
        token_mean_spread.shares,
        "weights * chances / (weights @ chances)",
        "weights",
        pairs("refill, tokens", 3),
    ),
    Mutant(
        "cut responses weighed like the others in a mean over tokens",
        Tilted.own.fget,
        "(self.case.lengths.value > 0)",
        "1.0",
        pairs("masked, tokens", "each"),
    ),
    Mutant(
        "micro-batches as if all had the same prompts",
        spreads.mean_of_pieces,
        "variance / M**2",
        "variance / M",
        partial(test_statistics_spread.test_micro_batches_of_whole_groups_are_updates_of_their_own, "each"),
    ),
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
    Mutant("divisor n in place of n - 1", SpreadAdvantage.of_moments, "count - self.ddof", "count", row(8)),
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
