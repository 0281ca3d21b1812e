"""`ticgrpo demo`: four planted bugs, and what their cards say."""


def demo(*, json: bool = False) -> int:
    """Four planted bugs in ten seconds, and the sentence that finds each of them.

    Nothing is read or written: the losses are in ticgrpo_theory/check/planted.py.

    ticgrpo demo

    ticgrpo demo --json

    Args:
        json: Print JSON, as `ticgrpo check --json` does.
    """
    from ticgrpo_theory.cli.answers import check as cards

    return cards.demonstrate(json=json)
