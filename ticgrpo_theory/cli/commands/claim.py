"""`ticgrpo claim`: one claim of the paper, decided and followed step by step."""


def claim(id: str, /, *, json: bool = False) -> int:
    """Follow the number behind one claim of the paper step by step, in fractions; nothing is written.

    The steps are taken from the definitions, by neither of the two engines. A number with ~ is not rational:
    it is the middle of an interval between two fractions.

    ticgrpo claim E7

    ticgrpo claim E7.proof --json

    Args:
        id: The id of a row of paper_checks.md.
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import claims
    from ticgrpo_theory.cli.output import give

    return give(lambda: claims.answer(id), claims.show, json)
