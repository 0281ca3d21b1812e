"""All rows of a card by name, in the order of blame."""

import dataclasses
from collections.abc import Callable
from typing import Any

from ticgrpo_theory.check import (
    causes,
    drift_rows,
    gradient_rows,
    group_rows,
    little_worlds,
    pencil,
    weight_rows,
)
from ticgrpo_theory.check.gradient_rows import Expectations
from ticgrpo_theory.check.row import Row
from ticgrpo_theory.check.subject import Subject


def questions_of(subject: Subject, tolerance: float, residual: float) -> dict[str, Callable[[], Row]]:
    """Every row by its name."""
    expectations = Expectations(subject)

    def largest() -> float:
        try:
            return gradient_rows.largest_weight(subject)
        except ValueError:
            return 1.0

    def of_weights(row: Callable[[Subject, float], Row]) -> Callable[[], Row]:
        return lambda: row(subject, tolerance)

    def unbiased(name: str, where: str, worlds: Any, small: Any, cause: Any) -> Callable[[], Row]:
        def ask() -> Row:
            row = gradient_rows.unbiased(name, where, expectations, worlds, residual, largest())
            if row.holds is not False:
                return row
            why, cure = cause(subject)
            return dataclasses.replace(
                row, cause=why, cure=cure, witness=pencil.witness(expectations, small(), residual)
            )

        return ask

    return {
        "repeatable": of_weights(group_rows.repeatable),
        "sign": lambda: gradient_rows.sign(expectations, largest()),
        "finite": of_weights(group_rows.finite),
        "mask": of_weights(weight_rows.mask),
        "padding": of_weights(weight_rows.padding),
        "order": of_weights(weight_rows.order),
        "microbatch": of_weights(group_rows.microbatch),
        "equal_rewards": of_weights(group_rows.equal_rewards),
        "unbiased_on_policy": unbiased(
            "unbiased_on_policy",
            "responses of one length",
            little_worlds.ONE_LENGTH,
            pencil.one_length,
            causes.of_rewards,
        ),
        "unbiased_on_policy_any_length": unbiased(
            "unbiased_on_policy_any_length",
            "responses of unequal length",
            little_worlds.ANY_LENGTH,
            pencil.any_length,
            causes.of_lengths,
        ),
        "unbiased_on_policy_prompts": unbiased(
            "unbiased_on_policy_prompts",
            "prompts of unequal difficulty",
            little_worlds.PROMPTS,
            pencil.prompts,
            causes.of_rewards,
        ),
        "unbiased_off_policy": lambda: drift_rows.off_policy(expectations, residual),
        "sampler": lambda: drift_rows.sampler(expectations, residual),
    }


CLAIMS = {
    "repeatable": "the same rows get the same weights every time",
    "sign": "on policy a step goes up: <E[g], grad J> > 0",
    "finite": "value and gradient are finite at log-ratios up to +-20",
    "mask": "numbers at masked positions have no weight and change nothing",
    "padding": "one to three more columns of padding, left or right, change nothing",
    "order": "responses in another order keep their weights",
    "microbatch": "a row's weights do not depend on which rows share its piece",
    "equal_rewards": "a group of equal rewards has no gradient",
    "unbiased_on_policy": "on policy, responses of one length: E[g] = c grad J, c > 0",
    "unbiased_on_policy_any_length": "on policy, responses of unequal length: E[g] = c grad J, c > 0",
    "unbiased_on_policy_prompts": "on policy, prompts of unequal difficulty: E[g] = c grad J, c > 0",
    "unbiased_off_policy": "after a drift: E[g] = c grad J(theta), c > 0",
    "sampler": "drawn by a sampler that is not theta_old: E[g] = c grad J(theta)",
}
"""What each row says of a loss without the fault."""

ROWS = tuple(CLAIMS)
"""Their names, in the order of blame."""
