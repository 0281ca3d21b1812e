"""The smallest world on which a bias shows, and its computation in fractions.

    E[g][row] = sum over groups  P(group) sum_it c[i,t] (1_a(i,t) - p_row)
    grad J    = sum over responses  P r sum_t (1_a(t) - p_row)

Worlds are tried from the fewest responses on, rows of halves before quarters.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch

from ticgrpo_theory.check import little_worlds
from ticgrpo_theory.check.gradient_rows import Expectations, direction
from ticgrpo_theory.check.little_worlds import HALVES, LittleWorld
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.one_group import BLANK

F = Fraction
QUARTERS = (F(1, 4), F(3, 4))
THIRDS = (F(1, 2), F(1, 4), F(1, 4))


def one_length() -> Iterator[LittleWorld]:
    """One token, of two or three letters."""
    for row in (HALVES, QUARTERS):
        yield little_worlds.tree("two letters", 2, 1, [0.0, 1.0], [row])
    for rewards in ([0.0, 1.0, 1.0], [0.0, 1.0, 2.0], [0.0, 1.0, 3.0]):
        yield little_worlds.tree("three letters", 3, 1, rewards, [THIRDS])
    yield little_worlds.tree("two tokens", 2, 2, [0.0, 1.0, 2.0, 4.0], [HALVES] * 3)


def any_length() -> Iterator[LittleWorld]:
    """At most two tokens, the second letter ends the response."""
    for rows in ((HALVES, HALVES), (HALVES, QUARTERS)):
        for rewards in ([0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 2.0], [0.0, 1.0, 3.0]):
            yield little_worlds.stopping("one or two tokens", 2, rewards, rows)


def prompts() -> Iterator[LittleWorld]:
    """Two prompts of two letters, an easy and a hard one."""
    easy = little_worlds.tree("easy", 2, 1, [0.0, 1.0], [HALVES])
    for row in (HALVES[::-1], QUARTERS[::-1], QUARTERS, (F(7, 8), F(1, 8))):
        hard = little_worlds.tree("hard", 2, 1, [0.0, 1.0], [row])
        yield little_worlds.mixed("an easy and a hard prompt", easy, hard)


@dataclass(frozen=True)
class Response:
    """A response by its letters, with what happens on the way."""

    text: str
    rows: tuple[int, ...]
    tokens: tuple[int, ...]
    prob: Fraction
    reward: Fraction


def responses(world: LittleWorld) -> list[Response]:
    """All responses of one prompt."""
    place = {prefix: row for row, prefix in enumerate(world.mdp.prefixes)}
    found = []
    for n, tokens in enumerate(world.mdp.responses):
        rows = tuple(place[tokens[:t]] for t in range(len(tokens)))
        prob = F(1)
        for row, a in zip(rows, tokens, strict=True):
            prob *= world.rows[row][a]
        text = "".join(world.letters[a] for a in tokens)
        found.append(Response(text, rows, tokens, prob, F(world.reward[n])))
    return found


def witness(expectations: Expectations, worlds: Iterator[LittleWorld], tolerance: float) -> str:
    """The first world, and G, on which E[g] is off grad J, worked out; '' where none of them shows it."""
    for world in worlds:
        for G in (2, 3):
            if G ** len(world.rows) > 3**3 and G > 2:
                continue
            try:
                found = direction(expectations.at(world, G), world.gradient, world, G)
            except ValueError:
                continue
            if found.size > 0 and (found.residual > max(tolerance, 1e-6) or not found.scale > 0):
                return worked_out(expectations, world, G, found.degrees)
    return ""


def worked_out(expectations: Expectations, world: LittleWorld, G: int, degrees: float) -> str:
    """The computation, in fractions where the weights are fractions; checked against the exact engine."""
    E = expectations.at(world, G)
    head = [f"{world.name}, G = {G}, theta = theta_old: {degrees:.3g} degrees"]
    if world.parts or expectations.subject.of_updates:
        return "\n".join([*head, *policy(world), *ended(E, world.gradient)])
    every, lines = responses(world), []
    total = [[F(0)] * len(row) for row in world.rows]
    exact, floats = True, torch.zeros_like(world.theta)
    for members in itertools.product(range(len(every)), repeat=G):
        group = [every[m] for m in members]
        c = expectations.subject.weights(batch_of(world, group))
        if not bool(c.any()):
            continue
        prob = F(1)
        for one in group:
            prob *= one.prob
        said = []
        for i, one in enumerate(group):
            for t, (row, a) in enumerate(zip(one.rows, one.tokens, strict=True)):
                weight = rational(float(c[i, t]))
                exact = exact and weight is not None
                for b, p in enumerate(world.rows[row]):
                    score = int(a == b) - p
                    floats[row, b] += float(prob) * float(c[i, t]) * float(score)
                    total[row][b] += prob * (weight or 0) * score
            said.append(", ".join(shown(float(x)) for x in c[i, : len(one.tokens)]))
        lines.append(f"  ({' , '.join(one.text for one in group)})  P = {prob}  c = [{' | '.join(said)}]")
    if float((floats - E).abs().max()) > 1e-6 * max(1.0, float(E.abs().max())):
        return "\n".join([*head, *policy(world), *ended(E, world.gradient)])
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"  ... and {len(lines) - MOST_LINES} more groups"]
    listed = [f"  {one.text}: P = {one.prob}, reward {one.reward}" for one in every]
    sums = ["E[g]   = " + table(total)] if exact else ended(E, world.gradient)[:1]
    gradient = [[F(0)] * len(row) for row in world.rows]
    for one in every:
        for row, a in zip(one.rows, one.tokens, strict=True):
            for b, p in enumerate(world.rows[row]):
                gradient[row][b] += one.prob * one.reward * (int(a == b) - p)
    return "\n".join(
        [
            *head,
            *policy(world),
            *listed,
            "groups with weights c[i,t] (others have none):",
            *lines,
            *sums,
            "grad J = " + table(gradient),
        ]
    )


MOST_LINES = 9
"""Groups that are listed in a witness."""


def batch_of(world: LittleWorld, group: list[Response]) -> Batch:
    """The rows that the loss is given, theta = theta_old."""
    T = max(len(one.tokens) for one in group)
    logp = torch.full((len(group), T), BLANK, dtype=torch.float64)
    mask = torch.zeros(len(group), T, dtype=torch.bool)
    for i, one in enumerate(group):
        for t, (row, a) in enumerate(zip(one.rows, one.tokens, strict=True)):
            logp[i, t], mask[i, t] = float(world.theta[row, a]), True
    return Batch(
        logp=logp,
        logp_old=logp.clone(),
        logp_ref=logp.clone(),
        logp_sampler=logp.clone(),
        reward=torch.tensor([float(one.reward) for one in group], dtype=torch.float64),
        mask=mask,
        horizon=world.mdp.horizon,
        truncated=torch.zeros(len(group), dtype=torch.bool),
    )


def rational(x: float) -> Fraction | None:
    """The simple fraction that a weight is, or None."""
    found = F(x).limit_denominator(360)
    return found if abs(float(found) - x) <= 1e-12 * max(1.0, abs(x)) else None


def shown(x: float) -> str:
    found = rational(x)
    return str(found) if found is not None else f"{x:.6g}"


def table(rows: list[list[Fraction]]) -> str:
    return "[" + "; ".join(" ".join(map(str, row)) for row in rows) + "]"


def policy(world: LittleWorld) -> list[str]:
    """The rows of the policy, in the order in which gradients list them."""
    return [f"rows of the policy: {table([list(row) for row in world.rows])}"]


def ended(E: torch.Tensor, gradient: torch.Tensor) -> list[str]:
    """Both tables, each number as a fraction where it is one."""

    def written(x: torch.Tensor) -> str:
        return "[" + "; ".join(" ".join(shown(v) for v in row) for row in x.tolist()) + "]"

    return [f"E[g]   = {written(E)}", f"grad J = {written(gradient)}"]
