"""Whole updates by their definition: loops over groups, rows and tokens, and over every ordered update.

Nothing is shared with the package: advantages, factors and filters are written out for one update of lists of
numbers, and expectations are sums over every choice of prompts and of responses.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Rewards = list[list[float]]
Lengths = list[list[int]]
Rows = list[list[float]]
"""One number for each response of each group."""


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def deviation(values: list[float], centre: float, ddof: int = 0) -> float:
    if max(values) == min(values):
        return 0.0
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - ddof))


def divided(numerator: float, std: float, delta: float) -> float:
    return 0.0 if std == 0 else numerator / (std + delta)


def group_centred(rewards: Rewards, lengths: Lengths) -> Rows:
    return [[r - mean(group) for r in group] for group in rewards]


def group_standardised(rewards: Rewards, lengths: Lengths, delta: float = 0.0) -> Rows:
    return [
        [divided(r - mean(group), deviation(group, mean(group)), delta) for r in group] for group in rewards
    ]


def batch_standardised(rewards: Rewards, lengths: Lengths, delta: float = 0.0, ddof: int = 0) -> Rows:
    every = [r for group in rewards for r in group]
    centre, std = mean(every), deviation(every, mean(every), ddof)
    return [[divided(r - centre, std, delta) for r in group] for group in rewards]


def token_whitened(rewards: Rewards, lengths: Lengths, delta: float = 0.0, ddof: int = 0) -> Rows:
    every = [
        r for R, L in zip(rewards, lengths, strict=True) for r, n in zip(R, L, strict=True) for _ in range(n)
    ] or [0.0]
    centre, std = mean(every), deviation(every, mean(every), ddof)
    return [[divided(r - centre, std, delta) for r in group] for group in rewards]


def length_weighted(rewards: Rewards, lengths: Lengths) -> Rows:
    found = []
    for group, tokens in zip(rewards, lengths, strict=True):
        total = sum(tokens) or 1
        baseline = math.fsum(n * r for n, r in zip(tokens, group, strict=True)) / total
        found.append([r - baseline if max(group) > min(group) else 0.0 for r in group])
    return found


def centred_by_root_mean_square(
    rewards: Rewards, lengths: Lengths, delta: float = 0.0, ddof: int = 0
) -> Rows:
    centred = [[r - mean(group) if max(group) > min(group) else 0.0 for r in group] for group in rewards]
    every = [a for group in centred for a in group]
    std = math.sqrt(math.fsum(a**2 for a in every) / (len(every) - ddof))
    return [[divided(a, std, delta) for a in group] for group in centred]


def centred_by_batch_deviation(rewards: Rewards, lengths: Lengths, delta: float = 0.0, ddof: int = 0) -> Rows:
    every = [r for group in rewards for r in group]
    std = deviation(every, mean(every), ddof)
    return [[divided(r - mean(group), std, delta) for r in group] for group in rewards]


def mean_of_groups(lengths: Lengths, kept: list[bool]) -> Rows:
    """1 / (P G)."""
    return [[1 / (len(lengths) * len(group))] * len(group) for group in lengths]


def mean_of_kept_groups(lengths: Lengths, kept: list[bool]) -> Rows:
    return [[1 / (max(1, sum(kept)) * len(group))] * len(group) for group in lengths]


def token_mean_per_group(lengths: Lengths, kept: list[bool]) -> Rows:
    return [[1 / (len(lengths) * sum(group))] * len(group) for group in lengths]


def sequence_mean(lengths: Lengths, kept: list[bool]) -> Rows:
    return [[1 / (len(lengths) * len(group) * max(n, 1)) for n in group] for group in lengths]


def token_mean_of_update(lengths: Lengths, kept: list[bool]) -> Rows:
    return [[1 / max(1, sum(map(sum, lengths)))] * len(group) for group in lengths]


def token_mean_of_kept(lengths: Lengths, kept: list[bool]) -> Rows:
    total = sum(sum(group) for group, k in zip(lengths, kept, strict=True) if k)
    return [[1 / max(1, total)] * len(group) for group in lengths]


def micro_batches(rows: int, order: list[int]) -> Callable[[Lengths, list[bool]], Rows]:
    """Rows in this order, cut into micro-batches, each with a token mean; the mean of these."""

    def factor(lengths: Lengths, kept: list[bool]) -> Rows:
        flat, G = [n for group in lengths for n in group], len(lengths[0])
        found = [0.0] * len(flat)
        for first in range(0, len(flat), rows):
            piece = order[first : first + rows]
            for row in piece:
                found[row] = rows / len(flat) / max(1, sum(flat[other] for other in piece))
        return [found[first : first + G] for first in range(0, len(flat), G)]

    return factor


def shuffled_micro_batches(rows: int) -> Callable[[Lengths, list[bool]], Rows]:
    """The mean of `micro_batches` over every order of the rows."""

    def factor(lengths: Lengths, kept: list[bool]) -> Rows:
        P, G = len(lengths), len(lengths[0])
        orders = list(itertools.permutations(range(P * G)))
        tables = [micro_batches(rows, list(order))(lengths, kept) for order in orders]
        return [[mean([table[p][i] for table in tables]) for i in range(G)] for p in range(P)]

    return factor


def any_group(rewards: list[float]) -> bool:
    return True


def unequal(rewards: list[float]) -> bool:
    return max(rewards) > min(rewards)


@dataclass(frozen=True)
class Response:
    """Where it reads the table of logits, what it is drawn with, and what it earns."""

    rows: tuple[int, ...]
    tokens: tuple[int, ...]
    reward: float
    cut: bool = False


def log_softmax(row: list[float]) -> list[float]:
    norm = math.log(math.fsum(math.exp(x) for x in row))
    return [x - norm for x in row]


def log_probabilities(response: Response, theta: Rows) -> list[float]:
    return [log_softmax(theta[s])[a] for s, a in zip(response.rows, response.tokens, strict=True)]


@dataclass(frozen=True)
class Update:
    """What an estimator of whole updates is, written out: the token ratio, no clip."""

    advantages: Callable[[Rewards, Lengths], Rows]
    factors: Callable[[Lengths, list[bool]], Rows] = mean_of_groups
    keep: Callable[[list[float]], bool] = any_group
    mask_cut: bool = False

    def weights(self, groups: list[tuple[Response, ...]]) -> Rows:
        """scale A of every row."""
        rewards = [[y.reward for y in group] for group in groups]
        counted = [[not (self.mask_cut and y.cut) for y in group] for group in groups]
        lengths = [
            [len(y.tokens) if c else 0 for y, c in zip(group, C, strict=True)]
            for group, C in zip(groups, counted, strict=True)
        ]
        kept = [self.keep(group) for group in rewards]
        A, scale = self.advantages(rewards, lengths), self.factors(lengths, kept)
        return [
            [A[p][i] * scale[p][i] if kept[p] and counted[p][i] else 0.0 for i in range(len(group))]
            for p, group in enumerate(groups)
        ]

    def gradient(self, groups: list[tuple[Response, ...]], theta: Rows, old: Rows) -> Rows:
        """sum_pi scale A sum_t w grad log pi_theta."""
        found = [[0.0] * len(row) for row in theta]
        for group, weights in zip(groups, self.weights(groups), strict=True):
            for y, c in zip(group, weights, strict=True):
                now, then = log_probabilities(y, theta), log_probabilities(y, old)
                for t, (s, a) in enumerate(zip(y.rows, y.tokens, strict=True)):
                    w = math.exp(now[t] - then[t])
                    for b, logp in enumerate(log_softmax(theta[s])):
                        found[s][b] += c * w * ((a == b) - math.exp(logp))
        return found


Prompt = list[Response]


def updates(
    prompts: list[Prompt], weights: list[float] | None, P: int, G: int, old: Rows
) -> Iterator[tuple[float, list[tuple[Response, ...]]]]:
    """(probability, groups) of every ordered update; weights None: every prompt once, in order."""
    chances = [[math.exp(math.fsum(log_probabilities(y, old))) for y in prompt] for prompt in prompts]
    every = range(len(prompts))
    choices = [tuple(every)] if weights is None else list(itertools.product(every, repeat=P))
    for choice in choices:
        chance = 1.0 if weights is None else math.prod(weights[q] for q in choice)
        members = [list(itertools.product(range(len(prompts[q])), repeat=G)) for q in choice]
        for picked in itertools.product(*members):
            drawn = math.prod(chances[q][n] for q, group in zip(choice, picked, strict=True) for n in group)
            yield (
                chance * drawn,
                [tuple(prompts[q][n] for n in group) for q, group in zip(choice, picked, strict=True)],
            )


def expectation(
    estimator: Update,
    prompts: list[Prompt],
    theta: Rows,
    old: Rows,
    *,
    G: int,
    P: int = 1,
    weights: list[float] | None = None,
    allowed: Callable[[list[tuple[Response, ...]]], bool] = lambda groups: True,
    sampler: Rows | None = None,
) -> Rows:
    """E[g_hat | update is allowed] by its definition, of responses that the sampler draws, or old."""
    total, mass = [[0.0] * len(row) for row in theta], 0.0
    for chance, groups in updates(prompts, weights, P, G, old if sampler is None else sampler):
        if not allowed(groups):
            continue
        mass += chance
        for row, added in zip(total, estimator.gradient(groups, theta, old), strict=True):
            for b, x in enumerate(added):
                row[b] += chance * x
    return [[x / mass for x in row] for row in total]


def same_prompt_again(
    estimator: Update, prompts: list[Prompt], theta: Rows, old: Rows, *, G: int, P: int, weights: list[float]
) -> Rows:
    """E[g_hat] where a group of equal rewards is drawn again for its own prompt."""
    total = [[0.0] * len(row) for row in theta]
    for choice in itertools.product(range(len(prompts)), repeat=P):
        chosen = [prompts[q] for q in choice]
        part = expectation(estimator, chosen, theta, old, G=G, P=P, allowed=all_unequal)
        for row, added in zip(total, part, strict=True):
            for b, x in enumerate(added):
                row[b] += math.prod(weights[q] for q in choice) * x
    return total


def all_unequal(groups: list[tuple[Response, ...]]) -> bool:
    return all(unequal([y.reward for y in group]) for group in groups)


# Two prompts over one table: responses 00, 01, 1, token 1 ends a response; the first pays 1, 0, 0, the second
# 1, 1, 0. Rows of the table: before the first token, and after a token 0.
def two_prompts() -> list[Prompt]:
    def prompt(rewards: tuple[float, float, float]) -> Prompt:
        return [
            Response((0, 1), (0, 0), rewards[0], cut=True),
            Response((0, 1), (0, 1), rewards[1]),
            Response((0,), (1,), rewards[2]),
        ]

    return [prompt((1.0, 0.0, 0.0)), prompt((1.0, 1.0, 0.0))]


OLD = [[0.2, -0.1], [0.3, 0.0]]
THETA = [[0.7, -0.4], [-0.1, 0.3]]
HALVES = [0.5, 0.5]
