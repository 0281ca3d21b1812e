"""`ticgrpo list`: what the other commands know by name."""


def listing(*, json: bool = False) -> int:
    """Name the worlds with their reasons, and the estimators with their formulas and sources.

    ticgrpo list

    ticgrpo list --json

    Args:
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import listing as names
    from ticgrpo_theory.cli.output import give

    return give(names.answer, names.show, json)
