"""Prove the certificates of results/certified/ again, with nothing but Python's own fractions.

    python3 -S check_certificates.py            # or: make certificates; two minutes

Each value of a certificate states a world in one line, a formula, and 30 digits. The formula is evaluated
from its definition: fractions as they are; roots, exponentials and logarithms as intervals between two
fractions. A value is proved if its interval lies above 0 and holds 25 of the digits. Values without a
formula are counted and not proved. What lines and formulas mean stands in
ticgrpo_theory/claims/world_line.py and by_hand/formulas.py; nothing of the package is imported. Exit code
0: every value with a formula is proved; 1: some are not, each with its reason.
"""

import ast
import json
import sys
from fractions import Fraction as F
from functools import reduce
from itertools import combinations_with_replacement
from math import factorial
from pathlib import Path

from certificate_worlds import (
    N,
    add,
    both,
    chance,
    deviation,
    dot,
    need,
    probabilities,
    read_line,
    scaled,
    scores,
    times,
)

DIGITS = F(1, 10**25)
"""Relative distance at which the printed digits must meet the interval."""


class World:
    """One line, and the formulas on it: every method without an underscore is a word of them."""

    def __init__(self, line):
        self._at = read_line(line)
        self._prompts, self._now = self._at["prompts"], self._at["theta"]
        self._old, self._every = self._at["old"], self._at["prompts"][0]
        self._known = {}

    def _of(self, node):
        if isinstance(node, ast.BinOp):
            a, b, op = self._of(node.left), self._of(node.right), type(node.op)
            if isinstance(b, list):
                return both(a, b, {ast.Add: 1, ast.Sub: -1}[op]) if isinstance(a, list) else scaled(a, b)
            return {ast.Add: N.__add__, ast.Sub: N.__sub__, ast.Mult: N.__mul__, ast.Div: N.__truediv__}[op](
                a, b
            )
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return N(node.value)
        name = getattr(getattr(node, "func", None), "id", "_")
        need(name[0] != "_" and hasattr(self, name), f"no formula: {ast.unparse(node)}")
        return getattr(self, name)(
            *(x.value if isinstance(x, ast.Constant) else self._of(x) for x in node.args)
        )

    def _moments(self, every):
        mean = add(chance(y, self._old) * y[2] for y in every)
        return mean, add(chance(y, self._old) * (y[2] - mean) * (y[2] - mean) for y in every).sqrt()

    def _bounds(self, clip, A, n):
        kind, *ends = clip.split(":")
        ends = [None if x == "inf" else F(x) for x in ends]
        if kind == "upper":
            return None, N(1 + ends[0])
        if kind == "two":
            return (None, ends[1] and N(1 + ends[1])) if N(0) <= A else (ends[0] and N(1 - ends[0]), None)
        if kind == "released":
            upper = (ends[0] * N(n).sqrt()).exp() if N(0) <= A else N(ends[1])
            return N(1) / N(ends[2]).exp(), upper
        need(kind == "none", f"clip {clip} is not stated")
        return None, None

    def _weighed(self, name, group, now, every):
        """(response, A, scale, [(ratio, 1 inside the clip else 0)]) for each member of a group."""
        ratio, kind, clip, scale, *_ = name.split("+")
        rewards, G, total = [y[2] for y in group], len(group), sum(len(y[0]) for y in group)
        mean, sigma = N(sum(rewards) / F(G)), deviation(rewards)
        if kind == "z":
            mean, sigma = self._moments(every)
        found = []
        for y in group:
            A = N(y[2]) if kind == "raw" else N(0) if sigma.hi == 0 else (y[2] - mean) / sigma
            n, w = (
                len(y[0]),
                [p / q for p, q in zip(probabilities(y, now), probabilities(y, self._old), strict=True)],
            )
            k, gates, (lo, hi) = n if ratio == "geometric" else 1, [], self._bounds(clip, A, n)
            for t in range(n):
                v = times({"none": [], "token": w[t : t + 1]}.get(ratio, w))
                inside = (lo is None or times([lo] * k) <= v) and (hi is None or v <= times([hi] * k))
                gates.append((v if k == 1 else (v.log() / k).exp(), int(inside)))
            found.append((y, A, F(1, {"mean": G * n, "tokens": total, "sum": G}[scale]), gates))
        return found

    def _gradient(self, name, group, now, every):
        found = self._weighed(name, group, now, every)
        pairs = [(y, [A * v * (s * on) for v, on in gates]) for y, A, s, gates in found]
        return scores(pairs, self._old if name.endswith("+old") else now)

    def _mean(self, G, f):
        tables = []
        for every in self._prompts:
            chances = [chance(y, self._old) for y in every]
            for members in combinations_with_replacement(range(len(every)), G):
                orders = factorial(G)
                for i in set(members):
                    orders //= factorial(members.count(i))
                share = times(chances[i] for i in members) * F(orders, len(self._prompts))
                tables.append(scaled(share, f([every[i] for i in members], every)))
        return reduce(both, tables)

    def _after(self, name, group, every, steps):
        now = self._old
        for _ in range(steps):
            g = self._gradient(name, group, now, every)
            odds = [
                [p * (x * self._at["eta"]).exp() for p, x in zip(*rows, strict=True)]
                for rows in zip(now, g, strict=False)
            ]
            now = [[x / add(row) for x in row] for row in odds]
        return now

    def _terms(self, group):
        """(g_hat, printed terms, corrected terms) of Eq. 7 or 11."""
        name, size = self._at["estimator"], len(group)
        if size not in self._known:
            self._known[size] = self.T1(), self.mu(), self.sigmaG(size)
        T1, mu, bar = self._known[size]
        every = [
            (y, (y[2] - mu) / bar, A, g) for y, A, _, g in self._weighed(name, group, self._now, self._every)
        ]

        def put(c, at):
            return scores([(y, [c(len(g), z, A, *v) / size for v in g]) for y, z, A, g in every], at)

        old, now = self._old, self._now
        whole, held = put(lambda n, z, A, w, on: T1 * z * w, now), put(lambda n, z, A, w, on: T1 * z, old)
        held_on = put(lambda n, z, A, w, on: T1 * z * on, old)
        grad = both(put(lambda n, z, A, w, on: T1 * z * w * on, now), held_on, -1)
        se1 = put(lambda n, z, A, w, on: T1 * (A - z) * w * on, now)
        se2 = put(lambda n, z, A, w, on: (T1 - F(1, n)) * A * w * on, now)
        clip = put(lambda n, z, A, w, on: -T1 * z * w * (1 - on), now)
        pairs = {
            "sampling_error_1": (se1, se1),
            "sampling_error_2": (se2, scaled(N(-1), se2)),
            "clip_error": (clip,) * 2,
        }
        if name.startswith("token"):
            pairs |= {"main": (held_on, held), "gradient_error": (grad, both(whole, held, -1))}
        else:
            pairs["main"] = (put(lambda n, z, A, w, on: T1 * z * w, old), whole)
        return self._gradient(name, group, now, self._every), pairs

    def E(self, name=None, G=None):
        name, G = name or self._at["estimator"], int(G or self._at["G"])
        return self._mean(G, lambda group, every: self._gradient(name, group, self._now, every))

    def square(self, name, G):
        def f(group, every):
            return [[dot(*[self._gradient(name, group, self._now, every)] * 2)]]

        return self._mean(G, f)[0][0]

    def after(self, name, G, steps):
        return self._mean(G, lambda group, every: [[self._J(self._after(name, group, every, steps))]])[0][0]

    def reused(self, name, G, c):
        def f(group, every):
            now = self._after(name, group, every, 1)
            return both(self._gradient(name, group, now, every), scaled(c, self._grad(now)), -1)

        return self._mean(G, f)

    def _J(self, at):
        return add(chance(y, at) * y[2] for every in self._prompts for y in every) / len(self._prompts)

    def _grad(self, at):
        pairs = [(y, [chance(y, at) * y[2]] * len(y[0])) for every in self._prompts for y in every]
        return scaled(N(F(1, len(self._prompts))), scores(pairs, at))

    def J(self, role):
        return self._J(self._at[role])

    def grad(self, role):
        return self._grad(self._at[role])

    def drawn(self, by, of, weight):
        mean = self.mu() if weight == "r-mu" else N(0)
        pairs = [(y, [chance(y, self._at[by]) * (y[2] - mean)] * len(y[0])) for y in self._every]
        return scores(pairs, self._at[of])

    def mu(self):
        return self._moments(self._every)[0]

    def sigma(self):
        return self._moments(self._every)[1]

    def T1(self):
        return add(chance(y, self._old) / len(y[0]) for y in self._every)

    def sigmaG(self, G=None):
        return self._mean(int(G or self._at["G"]), lambda group, every: [[deviation([y[2] for y in group])]])[
            0
        ][0]

    def group_miss(self, *repaired):
        named = {"".join(map(str, y[0])): y for y in self._every}
        g_hat, pairs = self._terms([named[name] for name in self._at["group"]])
        return both(g_hat, reduce(both, [pair[name in repaired] for name, pair in pairs.items()]), -1)

    def term(self, name, version):
        which = ("printed", "corrected").index(version)
        return self._mean(int(self._at["G"]), lambda group, every: self._terms(group)[1][name][which])

    def norm(self, x):
        return dot(x, x).sqrt()

    def dot(self, x, y):
        return dot(x, y)

    def logit(self, role):
        return (self._at[role][0][0] / self._at[role][0][1]).log()

    def ratio(self, name):
        (y,) = (y for y in self._every if "".join(map(str, y[0])) == name)
        return chance(y, self._now) / chance(y, self._old)

    def kl(self):
        pairs = [(y, chance(y, self._now), chance(y, self._at["ref"])) for y in self._every]
        return scores([(y, [p * (p / q).log()] * len(y[0])) for y, p, q in pairs], self._now)

    def k3(self, by, weight):
        pairs = []
        for y in self._every:
            share = chance(y, self._at[by]) * F(1, len(y[0]) if weight == "1/|s|" else 1)
            both_ = zip(probabilities(y, self._now), probabilities(y, self._at["ref"]), strict=True)
            pairs.append((y, [share * (1 - q / p) for p, q in both_]))
        return scores(pairs, self._now)

    def row_kl(self, by):
        found = []
        for s, (row, ref) in enumerate(zip(self._now, self._at["ref"], strict=True)):
            visits = add(chance(y, self._at[by]) * y[1].count(s) for y in self._every)
            logs = [(p / q).log() for p, q in zip(row, ref, strict=True)]
            mean = add(p * x for p, x in zip(row, logs, strict=True))
            found.append([visits * p * (x - mean) for p, x in zip(row, logs, strict=True)])
        return found


def proved(value):
    """The interval of one value; ValueError where it misses the digits or may not be above 0."""
    found = World(value["line"])._of(ast.parse(value["formula"], mode="eval").body)
    need(isinstance(found, N) and found.lo > 0, f"{value['formula']} is not proved above 0")
    printed = F(value["value"])
    gap = max(abs(printed - found.lo), abs(printed - found.hi))
    need(gap <= found.hi * DIGITS, f"{value['value']} is printed, {float(found.lo):.17g} found")
    return found


def main(folder):
    stated = unstated = exact = 0
    wrong = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            certificate = json.loads(path.read_text(encoding="utf-8"))
            need(
                certificate["id"] == path.stem and certificate["values"],
                "another id than its file, or no value",
            )
            for value in certificate["values"]:
                if value["formula"]:
                    found = proved(value)
                    stated, exact = stated + 1, exact + (found.lo == found.hi)
                else:
                    unstated += 1
        except (ValueError, KeyError, TypeError, ZeroDivisionError, AttributeError) as error:
            wrong.append(f"{path}: {error}")
    print(f"{stated} values proved, {exact} of them fractions; {unstated} without a formula: not proved")
    print("\n".join(wrong) or "no certificate is wrong", file=sys.stderr if wrong else sys.stdout)
    return int(bool(wrong) or stated == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "results" / "certified"))
