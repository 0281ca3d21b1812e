"""A world in a YAML file, as one can be written without Python.

    kind: prefix_tree          # one row of logits for each prefix
    vocab_size: 3              # or tokens: [a, b, stop], names by which responses and eos are written
    horizon: 2
    eos: 2                     # optional: the token that ends a response
    reward: {0 1: 1, 1 2: 0.5} # or a list, in the order of mdp.responses
    otherwise: 0               # optional: reward of responses that the table does not name
    theta: [[0.1, 0, 0], ...]  # optional: logits [S, V] of theta_old; without it `worlds.graded`

    kind: automaton            # a finite-state world, see TokenMDP.automaton
    transition: [[0, 1], [1, 1]]
    reward: [0, 1]             # of each state, or a table: {1: 1} of a state, {1 2: 1} of state and length
    rows: state                # optional, and so is start

    kind: mixture              # several prompts
    share_rows: true
    prompts: [{weight: 0.5, kind: ...}, {weight: 0.5, kind: ...}]

Nothing in the file is run. A file with a misspelt field is refused by the name of the nearest one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.experiment.typed_values import read
from ticgrpo_theory.experiment.yaml_fields import line_of, of_file, refuse_unknown
from ticgrpo_theory.worlds.catalogue import graded
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import logits

MOST_TOKENS = 1_000_000
"""Tokens of a vocabulary: rows of as many logits are no small world."""

SIZES = ("vocab_size", "tokens", "horizon", "eos")
FIELDS = {
    "prefix_tree": ("kind", *SIZES, "reward", "otherwise"),
    "automaton": ("kind", *SIZES, "transition", "reward", "otherwise", "rows", "start"),
    "mixture": ("kind", "prompts", "share_rows"),
}


@dataclass(frozen=True)
class Written:
    """A mapping of the file, and how errors name the place where it stands."""

    fields: Mapping[str, Any]
    where: str

    def place(self, field: str) -> str:
        """Where a field stands, as errors name it: file, line, field."""
        return f"{line_of(self.fields, field, self.where)}: {field}"

    def needed(self, field: str) -> Any:
        """What is written under a field that must be there."""
        if field not in self.fields:
            raise ValueError(f"{self.where} has no {field}; it must say {field}: ...")
        return self.fields[field]

    def read(self, field: str, kind: Any, otherwise: Any = None) -> Any:
        """A field as the type says; `otherwise` where it is not written, and an error where that is None."""
        if otherwise is not None and field not in self.fields:
            return otherwise
        return read(self.needed(field), kind, self.place(field))

    def numbers(self, field: str) -> Tensor:
        return numbers(self.needed(field), self.place(field))

    def whole_numbers(self, field: str) -> Any:
        return torch.tensor(nested(self.needed(field), int, self.place(field))).numpy()


def world_of_file(path: Path) -> tuple[TokenMDP, Float[Tensor, "S V"]]:
    """The world and theta_old; ValueError with the file, the field and what belongs there."""
    written = Written(of_file(path, "a YAML file of a world"), str(path))
    mdp = made(written, ("theta",))
    if "theta" not in written.fields:
        return mdp, graded(mdp)
    return mdp, logits(mdp, written.numbers("theta"), written.place("theta"))


def made(written: Written, besides: tuple[str, ...] = ()) -> TokenMDP:
    """A world from its fields; `besides` are those that somebody else reads."""
    where = written.where
    if not isinstance(written.fields, dict) or "kind" not in written.fields:
        raise ValueError(f"{where} has no kind; begin with a line like `kind: prefix_tree`")
    kind = written.read("kind", str)
    refuse_unknown([kind], list(FIELDS), "kind", where)
    refuse_unknown(written.fields, (*FIELDS[kind], *besides), "field", where)
    build = {"prefix_tree": prefix_tree, "automaton": automaton, "mixture": mixture}[kind]
    try:
        return build(written)
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said.startswith(where) else f"{where}: {said}") from error


def prefix_tree(written: Written) -> TokenMDP:
    V, names = vocabulary(written)
    horizon, eos = horizon_and_eos(written, names)
    if not isinstance(written.needed("reward"), dict):
        refuse_otherwise(written)
        return TokenMDP.prefix_tree(vocab_size=V, horizon=horizon, reward=written.numbers("reward"), eos=eos)
    table, otherwise = rewards(written)
    given = {tokens_of(name, names, written.place("reward")): value for name, value in table.items()}
    read_ones: set[tuple[int, ...]] = set()

    def value(response: tuple[int, ...]) -> float:
        read_ones.add(response)
        return given.get(response, otherwise)

    mdp = TokenMDP.prefix_tree(vocab_size=V, horizon=horizon, reward=value, eos=eos)
    for name, response in zip(table, given, strict=True):
        if response not in read_ones:
            raise ValueError(
                f"{written.where}: reward names {name!r}, which is no response: each has {horizon} tokens"
                + (" or ends earlier with eos" if eos is not None else "")
            )
    return mdp


def automaton(written: Written) -> TokenMDP:
    V, names = vocabulary(written)
    horizon, eos = horizon_and_eos(written, names)
    moves = written.whole_numbers("transition")
    start = written.read("start", int, 0)
    if isinstance(written.needed("reward"), dict):
        # A transition of another shape is refused before its rewards are read.
        values: Any = by_state(written, moves.shape[-2], horizon) if moves.ndim > 1 else []
    else:
        refuse_otherwise(written)
        values = written.numbers("reward")
    rows = written.fields.get("rows", "time_state")
    return TokenMDP.automaton(
        moves,
        vocab_size=V,
        horizon=horizon,
        reward=values,
        start=start,
        rows=rows if isinstance(rows, str) else written.whole_numbers("rows"),
        eos=eos,
    )


def mixture(written: Written) -> TokenMDP:
    prompts = written.needed("prompts")
    if not isinstance(prompts, list):
        raise ValueError(
            f"{written.where}: prompts = {prompts!r} is not a list of worlds, each with a weight"
        )
    mdps, weights = [], []
    for index, fields in enumerate(prompts):
        prompt = Written(fields, f"{written.where}: prompt {index}")
        mdps.append(made(prompt, ("weight",)))
        weights.append(prompt.read("weight", float))
    return TokenMDP.mixture(mdps, weights, share_rows=written.read("share_rows", bool))


def vocabulary(written: Written) -> tuple[int, list[str]]:
    """V and the names of the tokens, their numbers where they have none."""
    if ("tokens" in written.fields) == ("vocab_size" in written.fields):
        raise ValueError(f"{written.where}: give either vocab_size, or tokens, a list of names")
    if "vocab_size" in written.fields:
        V = written.read("vocab_size", int)
        if V > MOST_TOKENS:
            raise ValueError(
                f"{written.place('vocab_size')} = {V:,}: at most {MOST_TOKENS:,} tokens; give fewer"
            )
        return V, [str(token) for token in range(V)]
    names = [str(name) for name in written.read("tokens", tuple[str | int, ...])]
    if len(set(names)) < len(names) or any(len(name.split()) != 1 for name in names):
        raise ValueError(
            f"{written.where}: tokens = {names}: give each token a name of its own, without spaces"
        )
    return len(names), names


def horizon_and_eos(written: Written, names: list[str]) -> tuple[int, int | None]:
    horizon, eos = written.read("horizon", int), written.fields.get("eos")
    return horizon, None if eos is None else token_of(str(eos), names, written.place("eos"))


def by_state(written: Written, states: int, horizon: int) -> Callable[[int, int], float]:
    """reward(state, length) of a table whose keys are `state` or `state length`; the latter goes before."""
    table, otherwise = rewards(written)
    given = {}
    for name, value in table.items():
        parts = name.split()
        key = [int(part) for part in parts if part.isdigit()]
        fits = (
            len(parts) == len(key) in (1, 2) and key[0] < states and all(1 <= n <= horizon for n in key[1:])
        )
        if not fits:
            raise ValueError(
                f"{written.where}: reward names {name!r}; write a state in 0..{states - 1}, or a state and a "
                f"length in 1..{horizon}"
            )
        given[tuple(key)] = value
    return lambda state, length: given.get((state, length), given.get((state,), otherwise))


def refuse_otherwise(written: Written) -> None:
    """Raise ValueError for a reward of what is not named where every reward is given."""
    if "otherwise" in written.fields:
        raise ValueError(
            f"{written.place('otherwise')} = {written.fields['otherwise']!r} belongs to a table of rewards, "
            f"and a list names them all: leave otherwise out, or write a table"
        )


def rewards(written: Written) -> tuple[dict[str, float], float]:
    """A table of rewards by what they are written under, and the reward of what it does not name."""
    table: dict[str, float] = {}
    for written_name, value in written.fields["reward"].items():
        name = " ".join(str(written_name).split())
        if name in table:
            raise ValueError(f"{written.where}: reward of {name!r} is given twice; keep one of them")
        table[name] = read(value, float, f"{written.where}: reward of {name!r}")
    return table, written.read("otherwise", float, 0.0)


def tokens_of(name: str, names: list[str], where: str) -> tuple[int, ...]:
    """The response that is written as tokens with spaces between them."""
    return tuple(token_of(part, names, f"{where} of {name!r}") for part in name.split())


def token_of(name: str, names: list[str], where: str) -> int:
    refuse_unknown([name], names, "token", where)
    return names.index(name)


def numbers(value: Any, where: str) -> Tensor:
    """Nested lists of numbers, also of those that YAML takes for text, as 1e-3."""
    return torch.tensor(nested(value, float, where), dtype=torch.float64)


def nested(value: Any, kind: type, where: str) -> Any:
    """Lists of lists of one kind, as long as each other."""
    if not isinstance(value, list):
        return read(value, kind, where)
    made = [nested(entry, kind, where) for entry in value]
    if len({len(entry) if isinstance(entry, list) else None for entry in made}) > 1:
        raise ValueError(f"{where} has rows of unequal length")
    return made
