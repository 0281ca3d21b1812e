"""Direct definitions in plain Python: worlds, J, grad J and exact expectations over whole groups.

Nothing here is clever, and nothing here is shared with the package under test: no torch, no numpy, no dynamic
programming. A world is a list of responses; an expectation is a sum over groups of responses, each weighted
by its probability under theta_old; `theta` and `theta_old` are lists of S rows of V logits; gradients are
lists of the same shape. The token weights of the named estimators are in `oracle_weights`, the exact rational
versions in `oracle_rational`.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.oracles.weights import token_weights

Matrix = list[list[float]]
Response = tuple[tuple[int, ...], tuple[int, ...], float]
Weights = str | Callable[..., Matrix]
Groups = Callable[[list, int], Iterable[tuple[tuple[int, ...], float]]]


@dataclass(frozen=True)
class World:
    """Responses as (tokens, logits row used at each token, reward), and the sizes that bound them."""

    responses: list[Response]
    num_rows: int
    vocab_size: int
    horizon: int


def _endings(vocab_size: int, horizon: int, eos: int | None) -> list[tuple[int, ...]]:
    """Every token tuple that ends with `eos` or at the horizon, in lexicographic depth-first order."""

    def extend(prefix: tuple[int, ...]) -> list[tuple[int, ...]]:
        if len(prefix) == horizon or (prefix and prefix[-1] == eos):
            return [prefix]
        found = []
        for a in range(vocab_size):
            found.extend(extend((*prefix, a)))
        return found

    return extend(())


def path_world(
    vocab_size: int,
    horizon: int,
    row_of: Callable[[tuple[int, ...]], int],
    reward_fn: Callable[[tuple[int, ...]], float],
    eos: int | None = None,
) -> World:
    """A world whose logits row at each token is `row_of(prefix before that token)`; rows may be shared."""
    responses = []
    for tokens in _endings(vocab_size, horizon, eos):
        rows = tuple(row_of(tokens[:t]) for t in range(len(tokens)))
        responses.append((tokens, rows, reward_fn(tokens)))
    num_rows = 1 + max(max(rows) for _, rows, _ in responses)
    return World(responses, num_rows, vocab_size, horizon)


def tree_world(
    vocab_size: int,
    horizon: int,
    reward_fn: Callable[[tuple[int, ...]], float],
    eos: int | None = None,
) -> World:
    """A row for every prefix that can be extended: by length, then lexicographic.

    Prefixes that ended with `eos` have none.
    """
    row_of = {}
    for length in range(horizon):
        for prefix in itertools.product(range(vocab_size), repeat=length):
            if eos not in prefix:
                row_of[prefix] = len(row_of)
    return path_world(vocab_size, horizon, row_of.__getitem__, reward_fn, eos)


def log_policy(logits: Matrix) -> Matrix:
    """log pi(a|s) = logits[s][a] - log sum_b exp(logits[s][b]).

    A logit of -inf gives a token of probability 0.
    """
    table = []
    for row in logits:
        top = max(row)
        log_sum = top + math.log(sum(math.exp(x - top) for x in row))
        table.append([x - log_sum for x in row])
    return table


def token_logps(world: World, logits: Matrix) -> Matrix:
    """log pi(a[i,t] | s[i,t-1]) for every response i of the world and every token t of it."""
    table = log_policy(logits)
    return [[table[s][a] for a, s in zip(tokens, rows, strict=True)] for tokens, rows, _ in world.responses]


def probability(world: World, logits: Matrix, i: int) -> float:
    """P(tau_i) = exp(sum_t log pi(a[i,t] | s[i,t-1]))."""
    return math.exp(sum(token_logps(world, logits)[i]))


def probabilities(world: World, logits: Matrix) -> list[float]:
    """P(tau_i) for every response i."""
    return [math.exp(sum(logp)) for logp in token_logps(world, logits)]


def expected_return(world: World, logits: Matrix) -> float:
    """J = sum_i P(tau_i) r_i."""
    P = probabilities(world, logits)
    return math.fsum(p * reward for p, (_, _, reward) in zip(P, world.responses, strict=True))


def zeros(world: World) -> Matrix:
    """An S x V table of zeros."""
    return [[0.0] * world.vocab_size for _ in range(world.num_rows)]


def add_scores(total: Matrix, response: Response, weights: list[float], pi: Matrix) -> None:
    """total += sum_t weights[t] * grad log pi(a[t] | s[t-1]), where grad is e_a - pi(.|s) in row s."""
    tokens, rows, _ = response
    for a, s, c in zip(tokens, rows, weights, strict=True):
        for b, p in enumerate(pi[s]):
            total[s][b] += c * ((1.0 if a == b else 0.0) - p)


def policy(logits: Matrix) -> Matrix:
    """pi(a|s)."""
    return [[math.exp(x) for x in row] for row in log_policy(logits)]


def policy_gradient(world: World, logits: Matrix) -> Matrix:
    """grad J = sum_i P(tau_i) r_i sum_t grad log pi(a[i,t] | s[i,t-1])."""
    pi, total = policy(logits), zeros(world)
    for p, response in zip(probabilities(world, logits), world.responses, strict=True):
        tokens, _, reward = response
        add_scores(total, response, [p * reward] * len(tokens), pi)
    return total


def ordered_groups(P: list, G: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every ordered group of G responses, N**G of them, with its probability prod_j P[i_j]."""
    for members in itertools.product(range(len(P)), repeat=G):
        if all(P[i] > 0 for i in members):
            yield members, math.prod(P[i] for i in members)


def multiset_groups(P: list, G: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every unordered group, with probability G!/(n_1! n_2! ...) prod_j P[i_j].

    For estimators that ignore the order.
    """
    for members in itertools.combinations_with_replacement(range(len(P)), G):
        if all(P[i] > 0 for i in members):
            orders = math.factorial(G)
            for i in set(members):
                orders //= math.factorial(members.count(i))
            yield members, orders * math.prod(P[i] for i in members)


def add(total: Matrix, g: Matrix, factor: float) -> None:
    """total += factor * g."""
    for row, other in zip(total, g, strict=True):
        for b, x in enumerate(other):
            row[b] += factor * x


def squared_distance(g: Matrix, target: Matrix) -> float:
    """||g - target||^2 over all S*V entries."""
    pairs = [(x, y) for row, other in zip(g, target, strict=True) for x, y in zip(row, other, strict=True)]
    return math.fsum((x - y) ** 2 for x, y in pairs)


def norm(g: Matrix) -> float:
    """||g|| over all S*V entries."""
    return math.sqrt(math.fsum(x * x for row in g for x in row))


class GroupGradient:
    """g_hat(group) = sum_it c[i,t] grad log pi(a[i,t] | s[i,t-1]); `stale` takes the score at theta_old.

    `estimator` is a name of `oracle_weights`, or a function `f(group, horizon, **params)` that returns the
    token weights.
    """

    def __init__(
        self, world: World, theta: Matrix, theta_old: Matrix, estimator: Weights, params: dict[str, float]
    ) -> None:
        self.world, self.estimator, self.params = world, estimator, params
        # The tables are made once: they are the same for every group.
        self.logp, self.logp_old = token_logps(world, theta), token_logps(world, theta_old)
        self.score = policy(theta_old if estimator == "stale" else theta)

    def weights(self, members: tuple[int, ...]) -> Matrix:
        """c[i][t] of the group made of these responses."""
        group = [(self.logp[i], self.logp_old[i], self.world.responses[i][2]) for i in members]
        if callable(self.estimator):
            return self.estimator(group, self.world.horizon, **self.params)
        return token_weights(self.estimator, group, self.world.horizon, **self.params)

    def __call__(self, members: tuple[int, ...]) -> Matrix:
        """g_hat of the group made of these responses."""
        total = zeros(self.world)
        for i, c in zip(members, self.weights(members), strict=True):
            add_scores(total, self.world.responses[i], c, self.score)
        return total


def expected_gradient(
    world: World,
    theta: Matrix,
    theta_old: Matrix,
    estimator: Weights,
    G: int,
    groups: Groups = multiset_groups,
    **params: float,
) -> Matrix:
    """E[g_hat] = sum over groups of P_old(group) g_hat(group)."""
    g_hat, total = GroupGradient(world, theta, theta_old, estimator, params), zeros(world)
    for members, weight in groups(probabilities(world, theta_old), G):
        add(total, g_hat(members), weight)
    return total


def expected_gradient_by_type(
    world: World, theta: Matrix, theta_old: Matrix, estimator: Weights, G: int, **params: float
) -> Matrix:
    """E[g_hat] = G sum_i P_old(i) sum_t E[c[1,t] | response 1 is i] grad log pi(a[i,t] | s[i,t-1]).

    The other responses enter by their reward and length alone, so only those are enumerated for them.
    Reaches worlds whose groups are too many to list. True of every named estimator, since a response's own
    tokens alone carry its ratio; the tests compare it with the sum over ordered groups.
    """
    g_hat, total = GroupGradient(world, theta, theta_old, estimator, params), zeros(world)
    P = probabilities(world, theta_old)
    mass: dict[tuple[float, int], float] = {}
    example: dict[tuple[float, int], int] = {}
    for i, (tokens, _, reward) in enumerate(world.responses):
        kind = (reward, len(tokens))
        mass[kind] = mass.get(kind, 0.0) + P[i]
        example.setdefault(kind, i)
    kinds = list(mass)
    others = list(multiset_groups([mass[kind] for kind in kinds], G - 1))
    for i, response in enumerate(world.responses):
        if P[i] > 0:
            for members, weight in others:
                c = g_hat.weights((i, *(example[kinds[j]] for j in members)))[0]
                add_scores(total, response, [G * P[i] * weight * x for x in c], g_hat.score)
    return total


def mse(
    world: World,
    theta: Matrix,
    theta_old: Matrix,
    estimator: Weights,
    G: int,
    groups: Groups = multiset_groups,
    target: Matrix | None = None,
    **params: float,
) -> float:
    """E ||g_hat - target||^2; the target is grad J(theta) unless another is given."""
    target = policy_gradient(world, theta) if target is None else target
    g_hat = GroupGradient(world, theta, theta_old, estimator, params)
    every = groups(probabilities(world, theta_old), G)
    return math.fsum(weight * squared_distance(g_hat(members), target) for members, weight in every)


def second_moment(
    world: World,
    theta: Matrix,
    theta_old: Matrix,
    estimator: Weights,
    G: int,
    groups: Groups = multiset_groups,
    **params: float,
) -> float:
    """E ||g_hat||^2."""
    return mse(world, theta, theta_old, estimator, G, groups, target=zeros(world), **params)
