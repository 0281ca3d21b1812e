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

    kind: mixture              # several prompts; may be left out where there are prompts
    share_rows: true           # all read the same rows of logits; false: each has rows of its own, in order
    prompts:                   # each a world as above, of one vocabulary, and a mixture may be one
    - {weight: 0.25, kind: prefix_tree, vocab_size: 2, horizon: 2, reward: {0 1: 1}}
    - {weight: 0.75, kind: prefix_tree, vocab_size: 2, horizon: 2, reward: {1 1: 1}}

The weights of prompts add up to 1; where no prompt has one, all are as likely. theta of a mixture stands
beside `prompts`; with share_rows: false it may stand in every prompt instead, for the rows of its own.

Nothing in the file is run. Refused with file, line, prompt and field are misspelt names, fields that miss,
values of another type, weights that do not add up, tokens that prompts list in another order, and theta
given twice or to some of the prompts alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.experiment.typed_values import read
from ticgrpo_theory.experiment.yaml_fields import line_of, of_file, refuse_unknown
from ticgrpo_theory.inputs.numbers import shown
from ticgrpo_theory.worlds.catalogue import graded
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import logits

MOST_TOKENS = 1_000_000
"""Tokens of a vocabulary: rows of as many logits are no small world."""

SIZES = ("vocab_size", "tokens", "horizon", "eos")
FIELDS = {
    "prefix_tree": ("kind", *SIZES, "reward", "otherwise", "theta"),
    "automaton": ("kind", *SIZES, "transition", "reward", "otherwise", "rows", "start", "theta"),
    "mixture": ("kind", "prompts", "share_rows", "theta"),
}

Start = Float[Tensor, "S V"] | None
"""theta_old where it is written."""


@dataclass(frozen=True)
class Written:
    """A mapping of the file, once `made` has found that it is one, and how errors name its place."""

    fields: Any
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
    mdp, theta = made(Written(of_file(path, "a YAML file of a world"), str(path)))
    return mdp, graded(mdp) if theta is None else theta


def made(written: Written, besides: tuple[str, ...] = ()) -> tuple[TokenMDP, Start]:
    """A world from its fields; `besides` are those that somebody else reads."""
    where = written.where
    if not isinstance(written.fields, dict) or not {"kind", "prompts"} & {*written.fields}:
        raise ValueError(f"{where} has no kind; begin with a line like `kind: prefix_tree`")
    kind = written.read("kind", str) if "kind" in written.fields else "mixture"
    refuse_unknown([kind], list(FIELDS), "kind", where)
    refuse_unknown(written.fields, (*FIELDS[kind], *besides), "field", where)
    build = {"prefix_tree": prefix_tree, "automaton": automaton, "mixture": mixture}[kind]
    try:
        mdp, theta = build(written)
        if "theta" not in written.fields:
            return mdp, theta
        if theta is not None:
            raise ValueError(f"{written.place('theta')} is given here and in the prompts; keep one of them")
        return mdp, logits(mdp, written.numbers("theta"), written.place("theta"))
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said.startswith(where) else f"{where}: {said}") from error


def prefix_tree(written: Written) -> tuple[TokenMDP, Start]:
    V, names = vocabulary(written)
    horizon, eos = horizon_and_eos(written, names)
    if not isinstance(written.needed("reward"), dict):
        refuse_otherwise(written)
        values = written.numbers("reward")
        return TokenMDP.prefix_tree(vocab_size=V, horizon=horizon, reward=values, eos=eos), None
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
    return mdp, None


def automaton(written: Written) -> tuple[TokenMDP, Start]:
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
    mdp = TokenMDP.automaton(
        moves,
        vocab_size=V,
        horizon=horizon,
        reward=values,
        start=start,
        rows=rows if isinstance(rows, str) else written.whole_numbers("rows"),
        eos=eos,
    )
    return mdp, None


def mixture(written: Written) -> tuple[TokenMDP, Start]:
    listed = written.needed("prompts")
    if not isinstance(listed, list) or not listed:
        raise ValueError(
            f"{written.place('prompts')} = {shown(listed)} is not a list of worlds, each with a weight"
        )
    prompts = [Written(fields, f"{written.where}: prompt {i}") for i, fields in enumerate(listed)]
    worlds, thetas = zip(*(made(prompt, ("weight",)) for prompt in prompts), strict=True)
    weighted = any("weight" in prompt.fields for prompt in prompts)
    weights = [prompt.read("weight", float) if weighted else 1 / len(prompts) for prompt in prompts]
    refuse_other_tokens(written)
    shared = written.read("share_rows", bool)
    mdp = TokenMDP.mixture(worlds, weights, share_rows=shared)
    given = [theta is not None for theta in thetas]
    if not any(given):
        return mdp, None
    if shared or not all(given):
        why = "they share one table" if shared else f"prompt {given.index(False)} has none"
        raise ValueError(
            f"{prompts[given.index(True)].where} has a theta of its own, and {why}: give theta once, beside "
            f"prompts, or with share_rows: false to every prompt"
        )
    return mdp, torch.cat(thetas)


def refuse_other_tokens(written: Written) -> None:
    """Raise ValueError where prompts list their tokens in two ways: one number would be two tokens."""
    listed = list(tokens_listed(written.fields))
    for names in listed:
        if names != listed[0]:
            raise ValueError(
                f"{written.where}: prompts with tokens {shown(listed[0])} and {shown(names)}: token 0 must "
                f"be the same one in every prompt, and so on; list them alike"
            )


def tokens_listed(fields: Mapping[str, Any]) -> Iterator[list[str]]:
    """The names of tokens of every prompt that has names, in prompts of prompts too."""
    if "tokens" in fields:
        yield [str(name) for name in fields["tokens"]]
    for prompt in fields.get("prompts", ()):
        yield from tokens_listed(prompt)


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
