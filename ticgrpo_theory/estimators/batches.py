"""Whether the K inner steps of an outer step share their groups, or have groups of their own."""

from enum import StrEnum


class Batches(StrEnum):
    """The groups that inner steps read; all of them are drawn from pi_theta_old.

        reused     one batch of groups, read in all K inner steps
        disjoint   K batches, one for each inner step

    Source: arXiv:2508.02833 v2, Algorithms 1 and 2, for the first.
    """

    REUSED = "reused"
    DISJOINT = "disjoint"

    @classmethod
    def of(cls, name: str) -> "Batches":
        """The member of this name; ValueError for any other."""
        for each in cls:
            if name == each.value:
                return each
        raise ValueError(
            f"batches = {name!r}: choose 'reused' (one batch of groups for all K inner steps) or 'disjoint' "
            f"(K batches of groups, one for each inner step)"
        )

    def drawn(self, inner_steps: int) -> int:
        """B: 1 where they are reused, K where they are disjoint; inner step k reads batch k mod B."""
        return 1 if self is Batches.REUSED else inner_steps

    def made(self, inner_steps: int) -> "Batches":
        """What K inner steps make of it: a single step has a single batch, which counts as reused."""
        return Batches.REUSED if self.drawn(inner_steps) == 1 else self
