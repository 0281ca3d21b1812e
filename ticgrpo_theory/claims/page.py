"""One claim for a reader with pencil and paper: the row, and its numbers step by step in fractions."""

from collections.abc import Iterator

from ticgrpo_theory.claims.by_hand.formulas import value
from ticgrpo_theory.claims.by_hand.hand import Hand, spelled
from ticgrpo_theory.claims.by_hand.world import Policy, Response
from ticgrpo_theory.claims.claim import Claim, Finding, Witness
from ticgrpo_theory.claims.paper.quotes import QUOTES
from ticgrpo_theory.claims.table import proved, verdict
from ticgrpo_theory.claims.world_line import WorldLine, parse

MANY = 16
"""Responses that a page lists."""


def page(claim: Claim, finding: Finding) -> Iterator[str]:
    """The lines of the page of a claim, as they are computed."""
    yield f"{claim.id}. {claim.claim} ({claim.place})"
    yield f'The paper: "{QUOTES[claim.id]}"'
    yield f"Verdict: {verdict(finding)}."
    yield f"Number: {finding.number or 'none'}."
    numbers = proved(finding)
    for line in finding.lines:
        yield ""
        yield line
        hand = Hand(parse(line))
        yield from responses(hand, parse(line))
        for witness in (each for each in numbers if each.line == line):
            yield ""
            yield from steps(witness)


def responses(hand: Hand, line: WorldLine) -> Iterator[str]:
    """Reward, length and probabilities of every response, and the ratios of its tokens."""
    shown = [(each, policy) for each, policy in (("theta_old", hand.old), ("theta", hand.now))]
    for index, every in enumerate(hand.prompts):
        if len(hand.prompts) > 1:
            yield f"  prompt {index + 1} of {len(hand.prompts)}:"
        if len(every) > MANY:
            yield f"  {len(every)} responses of {line.T} tokens, more than {MANY}: not listed"
            continue
        for y in every:
            told = [f"P_{name} = {y.probability(policy)}" for name, policy in shown]
            if line.theta is not None:
                told = [*told, f"w = {', '.join(ratios(hand.now, hand.old, y))}"]
                told.append(f"w' = {y.probability(hand.now) / y.probability(hand.old)}")
            else:
                told = told[:1]
            yield f"  {y.name}: r = {y.reward}, |s| = {len(y.tokens)}, " + ", ".join(told)


def ratios(now: Policy, old: Policy, y: Response) -> list[str]:
    """w_t of every token."""
    return [str(p / q) for p, q in zip(y.probabilities(now), y.probabilities(old), strict=True)]


def steps(witness: Witness) -> Iterator[str]:
    """A certified number from its definition."""
    if not witness.formula:
        yield f"{witness.quantity} = {witness.float64:.10g}: both engines computed it; no formula states it"
        return
    yield f"{witness.quantity}:"
    told: list[str] = []
    found = value(Hand(parse(witness.line), told.append), witness.formula)
    yield from (f"  {text}" for text in told)
    last = f"{witness.formula} = {spelled(found)}"
    if told[-1:] != [last]:
        yield f"  {last}"
