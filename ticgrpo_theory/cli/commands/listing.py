"""`ticgrpo list`: what the other commands know by name."""


def listing(*, json: bool = False) -> int:
    """Name the worlds with their reasons, the estimators with formulas and sources, and the samplers.

    ticgrpo list

    ticgrpo list --json

    Args:
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import listing as names
    from ticgrpo_theory.cli.output import give

    return give(names.answer, names.show, json)
