"""What --advantage names: advantages of the package with parameters, and functions of a user's own."""

import ast
import dataclasses
from typing import Any

from ticgrpo_theory.estimators import advantages
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.experiment.imports import imported, refuse_nameless
from ticgrpo_theory.experiment.yaml_fields import refuse_unknown

NAMED: dict[str, type[Advantage]] = {
    kind.__name__: kind
    for kind in vars(advantages).values()
    if isinstance(kind, type) and issubclass(kind, Advantage) and kind is not Advantage
}


def advantage_of(written: str) -> Any:
    """`centred`, `standardised(delta=0, ddof=1)`, or file.py:name of a function of the rewards.

    Raises ValueError with the nearest name, for parameters that an advantage does not have, and for what is
    no function.
    """
    refuse_nameless(written, "advantage")
    if ":" in written:
        found = imported(written, "advantage")
        if isinstance(found, type) or not callable(found):
            kind = "a class" if isinstance(found, type) else type(found).__name__
            raise ValueError(
                f"advantage = {written} is {kind}; it must be a function of the rewards of a group [G], or "
                f"of (reward, mask)"
            )
        return found
    name, parameters = call_of(written)
    refuse_unknown([name], list(NAMED), "advantage", "ticgrpo_theory.estimators.advantages")
    fields = dataclasses.fields(NAMED[name])
    refuse_unknown(parameters, [field.name for field in fields], "parameter", f"the advantage {name}")
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in parameters]
    if missing:
        values = ", ".join(f"{field}=..." for field in missing)
        raise ValueError(f"advantage = {written} needs {', '.join(missing)}: write '{name}({values})'")
    return NAMED[name](**parameters)


def call_of(written: str) -> tuple[str, dict[str, float | int]]:
    """(name, parameters) of `name` or `name(field=number, ...)`; nothing is run."""
    try:
        tree = ast.parse(written, mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
            given = {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords}
            if all(type(value) in (int, float) for value in given.values()):
                return tree.func.id, given
    except (SyntaxError, ValueError):
        pass
    raise ValueError(
        f"advantage = {written!r}: write a name, or name(field=number, ...) as in 'standardised(delta=0)', "
        f"or file.py:name of a function of the rewards"
    )
