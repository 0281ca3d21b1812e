"""Mistakes in what is checked before multisets stand for ordered groups."""

from functools import partial

from tests.mutants.mutants import Mutant
from tests.properties import test_black_boxes
from tests.properties.black_boxes import BOXES
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.groups.every_group import EveryGroup

EVERY = "np.where(((number % 2 == 0) | same)[..., None], rotated, drawn)"
"""How each multiset is reordered."""


def of(part: str) -> partial:
    """The check of the one box of many groups whose name holds this."""
    (box,) = [box for box in BOXES if "many groups" in box.name and part in box.name]
    return partial(test_black_boxes.check_by_multisets, box)


GROUPS = [
    Mutant(
        "order of black boxes not checked",
        EveryGroup.fresh_walk,
        "Walk(self, checked)",
        "Walk(self, False)",
        of("by_order in_float32"),
    ),
    Mutant(
        "order checked on one group",
        multisets.reorderings,
        EVERY,
        "np.where((number == 250)[..., None], rotated, np.arange(G))",
        of("stop_where_the_first_is_worst"),
    ),
    Mutant(
        "every group only read backwards",
        multisets.reorderings,
        EVERY,
        "np.broadcast_to(np.arange(G)[::-1], drawn.shape).copy()",
        of("ends_against_the_rest"),
    ),
    Mutant(
        "every group only turned",
        multisets.reorderings,
        EVERY,
        "rotated",
        of("ring_of_products"),
    ),
    Mutant(
        "pairs of a group kept together",
        multisets.reorderings,
        EVERY,
        "np.where(number[..., None] % 2 == 0, np.roll(np.arange(G), 2), np.arange(G) ^ 1)",
        of("mean_over_tokens_of_each_pair"),
    ),
]
