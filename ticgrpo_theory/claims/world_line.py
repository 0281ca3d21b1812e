"""One line that states a world, its policies and an update: what a reader needs to recompute a number.

    V=2 T=2 EOS=1 r=1,0,0 old=1/2 theta=3/4,1/2 G=2

| key | what it is |
|---|---|
| V, T | tokens 0..V-1; a response ends at T tokens, or before at the token EOS |
| rows | `one`: every token is drawn from one row of logits; left out, each prefix has a row of its own |
| r | rewards in the order of the responses, 00 01 10 11; `a\\|b`: two equally likely prompts; `#0>=2`: 1 for two or more tokens 0, else 0 |
| old, theta, ref | the policy that drew, the current one (left out: old), the reference; for each row, in the order (), 0, 1, 00, ..., the probability of token 0, or `p:q:...` of all; one row stands for all |
| group | the responses of one group, by their tokens |
| estimator | ratio+advantage+clip+scale of an estimator, `+old` for the score at theta_old |
| G, K, eta | group size (`inf`: no group noise), steps on one group, learning rate |

Numbers are integers, fractions or decimals; they are kept as fractions.
"""  # noqa: E501

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import numpy as np

from ticgrpo_theory.claims.certified.rational import IntegerPolicy
from ticgrpo_theory.inputs.numbers import shown
from ticgrpo_theory.worlds.catalogue import zeros_counted
from ticgrpo_theory.worlds.mdp import TokenMDP

KEYS = ("V", "T", "EOS", "rows", "r", "old", "theta", "ref", "group", "estimator", "G", "K", "eta")
MOST = 1 << 12
"""Responses of a world that a line may state."""

Row = tuple[Fraction, ...]


@dataclass(frozen=True)
class WorldLine:
    """A line, read: fractions and integers. `str` prints it back, in the order of KEYS."""

    V: int
    T: int
    r: tuple[tuple[Fraction, ...], ...] | int
    """Rewards of each prompt; an integer n stands for `#0>=n`."""
    EOS: int | None = None
    rows: str | None = None
    old: tuple[Row, ...] | None = None
    theta: tuple[Row, ...] | None = None
    ref: tuple[Row, ...] | None = None
    group: tuple[tuple[int, ...], ...] | None = None
    estimator: str | None = None
    G: int | None = None
    """0 for a group without noise, `inf`."""
    K: int | None = None
    eta: Fraction | None = None

    def __str__(self) -> str:
        return " ".join(f"{key}={PRINT[key](self)}" for key in KEYS if getattr(self, key) is not None)

    @property
    def responses(self) -> list[tuple[int, ...]]:
        """Every response, in the order of the rewards."""
        return responses(self.V, self.T, self.EOS)

    @property
    def prefixes(self) -> list[tuple[int, ...]]:
        """The prefix of every row of logits; a shared row is that of the empty one."""
        kept = [a for a in range(self.V) if a != self.EOS]
        every = [y for t in range(self.T) for y in itertools.product(kept, repeat=t)]
        return every[:1] if self.rows == "one" else every

    def rewards(self) -> list[tuple[Fraction, ...]]:
        """The reward of every response, prompt by prompt."""
        if isinstance(self.r, int):
            return [tuple(Fraction(int(y.count(0) >= self.r)) for y in self.responses)]
        return list(self.r)

    def mdp(self) -> TokenMDP:
        """The world for the float64 engine."""
        if isinstance(self.r, int):
            least = self.r
            return zeros_counted(self.T, lambda zeros: zeros >= least)
        singles = []
        for rewards in self.r:
            tree = TokenMDP.prefix_tree(
                vocab_size=self.V, horizon=self.T, eos=self.EOS, reward=[float(x) for x in rewards]
            )
            if self.rows == "one":
                graph = tree.graph.with_rows(np.zeros(tree.num_rows, dtype=np.int64))
                tree = TokenMDP(vocab_size=self.V, horizon=self.T, num_rows=1, graphs=[graph])
            singles.append(tree)
        if len(singles) == 1:
            return singles[0]
        return TokenMDP.mixture(singles, [1 / len(singles)] * len(singles), share_rows=True)

    def policy(self, role: str) -> IntegerPolicy:
        """The policy `old`, `theta` or `ref` as integer odds; theta is old where it is left out."""
        stated = getattr(self, role) or (self.old if role == "theta" else None)
        if stated is None:
            raise ValueError(f"the line {self} states no policy {role}: add {role}=1/2, say")
        return IntegerPolicy(tuple(odds(row) for row in stated))

    def at_old(self) -> "WorldLine":
        """Before any drift."""
        return replace(self, theta=None)


def odds(row: Row) -> tuple[int, ...]:
    """Probabilities over their common denominator."""
    below = int(np.lcm.reduce([p.denominator for p in row]))
    return tuple(int(p * below) for p in row)


def responses(V: int, T: int, eos: int | None) -> list[tuple[int, ...]]:
    """Every response in lexicographic order, depth first."""

    def beyond(prefix: tuple[int, ...]) -> list[tuple[int, ...]]:
        if len(prefix) == T or (prefix and prefix[-1] == eos):
            return [prefix]
        return [y for a in range(V) for y in beyond((*prefix, a))]

    return beyond(())


def parse(text: str) -> WorldLine:
    """Read a line. Raises ValueError that names the word and says what would do."""
    given: dict[str, str] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or not value or key not in KEYS:
            raise ValueError(f"{word!r} is no KEY=VALUE of a world line; the keys are {', '.join(KEYS)}")
        if key in given:
            raise ValueError(f"{key} is given twice, as {given[key]!r} and {value!r}; give it once")
        given[key] = value
    for key in ("V", "T", "r"):
        if key not in given:
            raise ValueError(f"the line {text!r} has no {key}: write V=2 T=2 r=1,0,0,1 old=1/2, say")
    V, T = (whole(key, given.pop(key), 1) for key in ("V", "T"))
    eos = whole("EOS", given.pop("EOS"), 0) if "EOS" in given else None
    if eos is not None and eos >= V:
        raise ValueError(f"EOS={eos} is no token of V={V}: the tokens are 0 to {V - 1}")
    if T > 12 or V**T > MOST:
        raise ValueError(f"V={V} T={T} may make more than {MOST:,} responses, or T is above 12: lower V or T")
    rows = given.pop("rows", None)
    if rows not in (None, "one"):
        raise ValueError(f"rows={rows}: write rows=one, or leave it out for a row for each prefix")
    line = WorldLine(V, T, rewards_of(given.pop("r"), V, T, eos, rows), eos, rows)
    return replace(line, **{key: READ[key](key, value, line) for key, value in given.items()})


def number(key: str, text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{key}: {text!r} is no number; write 3/4, 0.75 or 1") from None


def whole(key: str, text: str, least: int) -> int:
    value = number(key, text)
    if value.denominator != 1 or value < least:
        raise ValueError(f"{key}={text}: an integer of at least {least} is needed")
    return int(value)


def rewards_of(text: str, V: int, T: int, eos: int | None, rows: str | None) -> tuple[Row, ...] | int:
    if text.startswith("#0>="):
        if (V, eos, rows) != (2, None, "one"):
            raise ValueError(f"r={text} counts tokens 0: it takes V=2, rows=one and no EOS")
        return whole("r", text.removeprefix("#0>="), 0)
    prompts = tuple(tuple(number("r", x) for x in each.split(",")) for each in text.split("|"))
    every = responses(V, T, eos)
    for each in prompts:
        if len(each) != len(every):
            names = " ".join("".join(map(str, y)) for y in every[:8])
            more = " ..." if len(every) > 8 else ""
            raise ValueError(
                f"r has {len(each)} rewards where there are {len(every)} responses: one each for "
                f"{names}{more}"
            )
    return prompts


def policy_of(key: str, text: str, line: WorldLine) -> tuple[Row, ...]:
    table = []
    for word in text.split(","):
        row = tuple(number(key, x) for x in word.split(":"))
        row = (row[0], 1 - row[0]) if len(row) == 1 and line.V == 2 else row
        if len(row) != line.V or sum(row) != 1 or min(row) <= 0:
            raise ValueError(
                f"{key}: {word!r} is no row of {line.V} probabilities above 0 that add up to 1; write "
                f"{':'.join([f'1/{line.V}'] * line.V)}, or for V=2 the probability of token 0"
            )
        table.append(row)
    count = len(line.prefixes)
    if len(table) not in (1, count):
        raise ValueError(f"{key} has {len(table)} rows; give {count}, one for each prefix, or one for all")
    return tuple(table) if len(table) == count else tuple(table * count)


def group_of(key: str, text: str, line: WorldLine) -> tuple[tuple[int, ...], ...]:
    known = {"".join(map(str, y)): y for y in line.responses}
    words = text.split(",")
    for word in words:
        if word not in known:
            raise ValueError(f"group: {word!r} is no response; there are {shown(list(known))}")
    return tuple(known[word] for word in words)


READ: dict[str, Callable[[str, str, WorldLine], object]] = {
    "old": policy_of,
    "theta": policy_of,
    "ref": policy_of,
    "group": group_of,
    "estimator": lambda key, text, line: text,
    "G": lambda key, text, line: 0 if text == "inf" else whole(key, text, 1),
    "K": lambda key, text, line: whole(key, text, 0),
    "eta": lambda key, text, line: number(key, text),
}


def spelled_policy(table: tuple[Row, ...]) -> str:
    rows = [str(row[0]) if len(row) == 2 else ":".join(map(str, row)) for row in table]
    return rows[0] if len(set(rows)) == 1 else ",".join(rows)


def spelled_rewards(line: WorldLine) -> str:
    return f"#0>={line.r}" if isinstance(line.r, int) else "|".join(",".join(map(str, x)) for x in line.r)


PRINT: dict[str, Callable[[WorldLine], str]] = {
    **{each.name: (lambda line, name=each.name: str(getattr(line, name))) for each in fields(WorldLine)},
    "r": spelled_rewards,
    "old": lambda line: spelled_policy(line.old or ()),
    "theta": lambda line: spelled_policy(line.theta or ()),
    "ref": lambda line: spelled_policy(line.ref or ()),
    "group": lambda line: ",".join("".join(map(str, y)) for y in line.group or ()),
    "G": lambda line: str(line.G or "inf"),
}
