"""The sentence on top: the first row that fails, in the order of blame, or what the loss estimates."""

from collections.abc import Sequence

from ticgrpo_theory.check.row import Row

HEADS = {
    "repeatable": "NOT REPEATABLE",
    "sign": "WRONG SIGN",
    "finite": "NOT FINITE",
    "mask": "MASK FORGOTTEN",
    "padding": "READS PADDING",
    "order": "READS THE ORDER",
    "microbatch": "CHANGES WITH MICRO-BATCHES",
    "equal_rewards": "MOVES ON EQUAL REWARDS",
    "unbiased_on_policy": "BIASED",
    "unbiased_on_policy_any_length": "BIASED",
    "unbiased_on_policy_prompts": "BIASED",
}
"""Rows that a verdict blames, in this order; what a drift or another sampler costs is said, not blamed."""


def verdict_of(rows: Sequence[Row], interrupted: bool) -> str:
    """One sentence: what is wrong first of all, or what is estimated."""
    by_name = {row.name: row for row in rows}
    cut = "interrupted after " + (rows[-1].name if rows else "no row") + "; " if interrupted else ""
    silent = [row.name for row in rows if row.name in HEADS and row.holds is None]
    unsure = f"; no answer: {', '.join(silent)}" if silent else ""
    for name, head in HEADS.items():
        row = by_name.get(name)
        if row is None or row.holds is not False:
            continue
        if name == "sign" and row.number == 0.0:
            # Without a signal a number that is not finite is the better explanation.
            broken = by_name.get("finite")
            if broken is not None and broken.holds is False:
                continue
            head = "NO SIGNAL"
        also = also_failing(rows, name)
        return (
            cut
            + f"{head}: {row.detail}"
            + (f"; cause: {row.cause}" if row.cause else "")
            + (f"; cure: {row.cure}" if row.cure else "")
            + also
            + unsure
        )
    on_policy = [
        row for name in HEADS if name.startswith("unbiased") and (row := by_name.get(name)) is not None
    ]
    if not on_policy:
        return (
            cut
            + (f"{sum(row.holds is True for row in rows)} of {len(rows)} rows hold" if rows else "no row")
            + unsure
        )
    holding = [row for row in on_policy if row.holds]
    if not holding:
        return cut + f"NO ANSWER on policy{unsure}"
    exact = all(row.how == "exact" for row in holding)
    on = "exactly" if exact else "in direction"
    where = ", ".join(PLACES[row.name] for row in holding)
    text = f"UNBIASED on policy, {on}: E[g] = {'' if exact else 'c '}grad J on {where}"
    off = by_name.get("unbiased_off_policy")
    if off is not None and off.holds:
        text += "; after a drift too"
    elif off is not None and off.holds is False:
        text += f"; after a drift {off.detail}"
    return cut + text + unsure


PLACES = {
    "unbiased_on_policy": "one length",
    "unbiased_on_policy_any_length": "any length",
    "unbiased_on_policy_prompts": "several prompts",
}


def also_failing(rows: Sequence[Row], blamed: str) -> str:
    """The other rows that fail, by name."""
    others = [row.name for row in rows if row.holds is False and row.name != blamed]
    return f" (fails as well: {', '.join(others)})" if others else ""
