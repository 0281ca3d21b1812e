"""How a sum over groups may be carried out."""

from dataclasses import dataclass

from ticgrpo_theory.inputs.numbers import shown, whole_number
from ticgrpo_theory.inputs.options import check_options


@dataclass(frozen=True)
class Options:
    """How a sum over groups may be carried out; the same for all prompts."""

    symmetric: bool | None = None
    """Whether the order of a group matters to the estimator; None: known, or checked."""
    limit: int | None = None
    """Groups of a black box that may be listed."""
    tolerance: float | None = None
    """Relative error to reach where there is one."""
    seed: int = 0
    """Of samples."""
    method: str = "auto"
    """What computes an answer; "auto" takes the cheapest method that is exact."""
    prompts: int | str | None = None
    """Groups of an update: P of them, their prompts drawn by weight, or "each" prompt once; None: one "
    "group."""
    scope: str = "group"
    """What a callable is given: one "group", or the rows of the whole update, its "batch"."""

    def __post_init__(self) -> None:
        check_options(self.symmetric, self.limit, self.tolerance, self.seed)
        if self.prompts is not None and self.prompts != "each":
            if isinstance(self.prompts, str):
                raise ValueError(
                    f"prompts = {self.prompts!r}: give a number P >= 1 of groups, or 'each' for every "
                    f"prompt once"
                )
            whole_number(
                "prompts", self.prompts, 1, "groups of an update, or give 'each' for every prompt once"
            )
        if self.scope not in ("group", "batch"):
            raise ValueError(
                f"scope = {shown(self.scope)}: choose 'group' (a callable is given one group) or 'batch' "
                f"(the rows of the whole update)"
            )

    @property
    def by_name(self) -> bool:
        """Whether a method was named, so that what it assumes is checked instead of refused."""
        return self.method != "auto"


DEFAULT = Options()
"""Nothing but what is exact."""
