"""The formulas of certificates, evaluated on a world line.

| in a formula | what it is |
|---|---|
| E("token+std+two:1/5:7/25+mean", 4) | E[g_hat] at group size 4; without arguments those of the line; at G=inf of one response with A = z |
| square("...", 4) | E of its squared norm |
| after("...", 4, 2) | E[J(theta_2)], two steps of eta on one group of 4 drawn from theta_old |
| reused("...", 4, c) | E[g_hat_1 - c grad J(theta_1)] after one such step |
| J("theta"), grad("old") | the expected reward, its gradient |
| drawn("old", "theta", "r") | E_old[r grad log P_theta]; "r-mu" for the reward minus its mean |
| mu(), sigma(), T1(), sigmaG(4) | mean and deviation of the reward under theta_old, E[1/|s|], E[sigma_G] |
| group_miss("main"), term("main", "printed") | g_hat of the group minus its printed terms, those named taken as corrected; E of a term |
| kl(), k3("old", "1"), row_kl("old") | grad KL of responses; E of the gradient of k3 (each token weighted 1 or 1/|s|), and of the exact KL of every visited row |
| ratio("00"), logit("ref") | w' of a response; log of the odds of token 0 in the first row |
| norm(x), dot(x, y) | over all logits |
"""  # noqa: E501

import ast
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce

from ticgrpo_theory.claims.by_hand import terms as by_terms
from ticgrpo_theory.claims.by_hand.hand import Hand, Value, plus, short, spelled, times, total
from ticgrpo_theory.claims.by_hand.interval import Interval
from ticgrpo_theory.claims.by_hand.world import ZERO, Response, Table, deviation, groups, scores, weighed

FEW = 40
"""Groups that are told one by one."""


def value(hand: Hand, formula: str) -> Value:
    """The value of a formula. Raises ValueError for anything but calls of the functions above."""
    return of_node(hand, ast.parse(formula, mode="eval").body)


def of_node(hand: Hand, node: ast.AST) -> Value:
    if isinstance(node, ast.BinOp):
        return combined(node.op, of_node(hand, node.left), of_node(hand, node.right))
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Interval.of(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORMULAS:
        given = [x.value if isinstance(x, ast.Constant) else of_node(hand, x) for x in node.args]
        found = FORMULAS[node.func.id](hand, *given)
        hand.tell(f"{ast.unparse(node)} = {spelled(found)}")
        return found
    raise ValueError(f"{ast.unparse(node)} is no formula; the functions are {', '.join(FORMULAS)}")


def combined(op: ast.operator, left: Value, right: Value) -> Value:
    """left op right, of numbers and tables."""
    if isinstance(left, list) and isinstance(right, list) and isinstance(op, ast.Add | ast.Sub):
        return plus(left, right if isinstance(op, ast.Add) else times(Interval.of(-1), right))
    if isinstance(left, Interval) and isinstance(right, list) and isinstance(op, ast.Mult):
        return times(left, right)
    if isinstance(left, Interval) and isinstance(right, Interval):
        for kind, f in ARITHMETIC.items():
            if isinstance(op, kind):
                return f(left, right)
    raise ValueError(f"{type(op).__name__} of {spelled(left)} and {spelled(right)} is not stated")


ARITHMETIC: dict[type[ast.operator], Callable[[Interval, Interval], Interval]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def E(hand: Hand, estimator: str | None = None, size: int | None = None) -> Table:
    parts, G = hand.update(estimator, size)
    if sum(math.comb(len(every) + G - 1, G) for every in hand.prompts) <= FEW:
        for every in hand.prompts:
            for chance, group in groups(every, hand.old, G):
                g = hand.gradient(parts, group, hand.now, every)
                hand.tell(f"  group {', '.join(y.name for y in group)}: P = {chance}, g_hat = {short(g)}")
    return hand.over_groups(G, lambda group, every: hand.gradient(parts, group, hand.now, every))


def square(hand: Hand, estimator: str | None = None, size: int | None = None) -> Interval:
    parts, G = hand.update(estimator, size)

    def f(group: list[Response], every: list[Response]) -> Table:
        g = hand.gradient(parts, group, hand.now, every)
        return [[dot(hand, g, g)]]

    return hand.over_groups(G, f)[0][0]


def after(hand: Hand, estimator: str, size: int, steps: int) -> Interval:
    parts, G = hand.update(estimator, size)
    return hand.over_groups(
        G, lambda group, every: [[hand.value_of(hand.stepped(parts, group, every, steps))]]
    )[0][0]


def reused(hand: Hand, estimator: str, size: int, c: Interval) -> Table:
    parts, G = hand.update(estimator, size)

    def f(group: list[Response], every: list[Response]) -> Table:
        now = hand.stepped(parts, group, every, 1)
        return plus(hand.gradient(parts, group, now, every), times(-c, hand.gradient_of(now)))

    return hand.over_groups(G, f)


def sigma_of_group(hand: Hand, size: int | None = None) -> Interval:
    G = size or hand.line.G or 1
    return hand.over_groups(G, lambda group, every: [[deviation([y.reward for y in group])]])[0][0]


def drawn(hand: Hand, by: str, of: str, weight: str) -> Table:
    """E_by[weight grad log P_of]."""
    (every,) = hand.prompts
    mean = hand.moments(every)[0] if weight == "r-mu" else ZERO
    pairs = [(y, [y.probability(hand.role(by)) * (y.reward - mean)] * len(y.tokens)) for y in every]
    return scores(pairs, hand.role(of))


def inverse_length(hand: Hand) -> Interval:
    (every,) = hand.prompts
    return total([y.probability(hand.old) / len(y.tokens) for y in every])


def kl(hand: Hand) -> Table:
    """grad KL(P_theta || P_ref)."""
    (every,), ref = hand.prompts, hand.role("ref")
    pairs = []
    for y in every:
        p = y.probability(hand.now)
        pairs.append((y, [p * (p / y.probability(ref)).log()] * len(y.tokens)))
    return scores(pairs, hand.now)


def k3(hand: Hand, by: str, weight: str) -> Table:
    """E_by[sum_t (1 - pi_ref / pi_theta)(a_t) psi_t], each response weighted 1 or 1/|s|."""
    (every,), ref = hand.prompts, hand.role("ref")
    pairs = []
    for y in every:
        n, chance = len(y.tokens), y.probability(hand.role(by))
        x = [q / p for p, q in zip(y.probabilities(hand.now), y.probabilities(ref), strict=True)]
        pairs.append((y, [chance * Fraction(1, n if weight == "1/|s|" else 1) * (1 - each) for each in x]))
    return scores(pairs, hand.now)


def row_kl(hand: Hand, by: str) -> Table:
    """E_by[sum_t grad KL(pi_theta(. | s_t) || pi_ref(. | s_t))], the visits not differentiated."""
    (every,), ref = hand.prompts, hand.role("ref")
    found = [[ZERO] * len(row) for row in hand.now]
    visits = [ZERO] * len(hand.now)
    for y in every:
        for s in y.rows:
            visits[s] = visits[s] + y.probability(hand.role(by))
    for s, row in enumerate(hand.now):
        logs = [(p / q).log() for p, q in zip(row, ref[s], strict=True)]
        mean = total([p * x for p, x in zip(row, logs, strict=True)])
        found[s] = [visits[s] * p * (x - mean) for p, x in zip(row, logs, strict=True)]
    return found


def dot(hand: Hand, left: Table, right: Table) -> Interval:
    return total([a * b for rows in zip(left, right, strict=True) for a, b in zip(*rows, strict=True)])


def setting(hand: Hand) -> by_terms.Setting:
    """What Eq. 7 or 11 is taken in; the group size is that of the line, or the size of its group."""
    size = len(hand.line.group) if hand.line.group else hand.line.G
    parts, G = hand.update(None, size)
    mean, sigma_bar, T1 = hand.moments(hand.prompts[0])[0], sigma_of_group(hand, G), inverse_length(hand)
    hand.tell(f"mu = {mean}, T1 = E_old[1/|s|] = {T1}, sigma_bar = E[sigma_G] = {sigma_bar} at G = {G}")
    return by_terms.Setting(hand.now, hand.old, parts, hand.line.T, mean, sigma_bar, T1)


def group_miss(hand: Hand, *repaired: str) -> Table:
    """g_hat of the group of the line minus its terms."""
    named = {y.tokens: y for y in hand.prompts[0]}
    at, group = setting(hand), [named[tokens] for tokens in hand.line.group or ()]
    for each in weighed(at.parts, group, hand.now, hand.old, (ZERO, Interval.of(1)), hand.line.T):
        gates = ", ".join(f"{w} {'on' if on else 'off'}" for w, on in zip(each.ratios, each.on, strict=True))
        told = ", ".join(map(str, each.weights))
        hand.tell(f"{each.response.name}: A = {each.A}; ratio of each token {gates}; c = {told}")
    g_hat, printed, corrected = by_terms.of_group(at, group)
    hand.tell(f"g_hat = {spelled(g_hat)}")
    for name, each in printed.items():
        hand.tell(f"  {name}: as printed {spelled(each)}; corrected {spelled(corrected[name])}")
    tables = [(corrected if name in repaired else printed)[name] for name in printed]
    return by_terms.minus(g_hat, reduce(plus, tables))


def term(hand: Hand, name: str, version: str) -> Table:
    """E of one term at the group size of the line."""
    at, corrects = setting(hand), {"printed": False, "corrected": True}[version]

    def of_group(group: Sequence[Response], every: object) -> Table:
        _, printed, corrected = by_terms.of_group(at, group)
        return (corrected if corrects else printed)[name]

    return hand.over_groups(hand.line.G or 1, of_group)


FORMULAS: dict[str, Callable[..., Value]] = {
    "E": E,
    "square": square,
    "after": after,
    "reused": reused,
    "J": lambda hand, role: hand.value_of(hand.role(role)),
    "grad": lambda hand, role: hand.gradient_of(hand.role(role)),
    "drawn": drawn,
    "mu": lambda hand: hand.moments(hand.prompts[0])[0],
    "sigma": lambda hand: hand.moments(hand.prompts[0])[1],
    "T1": inverse_length,
    "sigmaG": sigma_of_group,
    "group_miss": group_miss,
    "term": term,
    "kl": kl,
    "k3": k3,
    "row_kl": row_kl,
    "logit": lambda hand, role: (hand.role(role)[0][0] / hand.role(role)[0][1]).log(),
    "ratio": lambda hand, name: next(
        y.probability(hand.now) / y.probability(hand.old) for y in hand.prompts[0] if y.name == name
    ),
    "norm": lambda hand, x: dot(hand, x, x).sqrt(),
    "dot": dot,
}
