"""Why an expectation does not point along grad J: which formula the token weights follow, on policy."""

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.check import probes
from ticgrpo_theory.check.subject import Subject
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.losses import from_loss

CONSTANT = (
    "divide by a constant length: loss_type='dr_grpo' in TRL, loss_agg_mode='seq-mean-token-sum' in verl"
)

LENGTHS = {
    "1/length of the response": (lambda n, T: 1 / n, CONSTANT),
    "1/(number of tokens of the group)": (lambda n, T: 1 / n.sum() + 0 * n, CONSTANT),
    "1/(length of the longest response)": (lambda n, T: 1 / n.max() + 0 * n, CONSTANT),
    "a factor of the response's length": (
        lambda n, T: n,
        "sum over tokens once, without a factor of the length",
    ),
    "length / (number of tokens of the group)": (
        lambda n, T: n / n.sum(),
        "average over responses, then sum",
    ),
    "1/sqrt(length)": (lambda n, T: n**-0.5, CONSTANT),
}
"""Cause: the factor of a response of n of the group's tokens [G], and what to change."""

STANDARD = "scale_rewards='none' in TRL, norm_adv_by_std_in_grpo=False in verl; or larger groups"


def of_lengths(subject: Subject) -> tuple[str, str]:
    """(cause, cure) of a bias on responses of several lengths; ('', '') where no formula fits."""
    try:
        groups = [probes.group(lengths, probes.REWARDS) for lengths in LENGTH_SETS]
        factors = [factor_of(subject, batch) for batch in groups]
    except ValueError:
        return "", ""
    spread = max(float((f.amax(1) - f.amin(1)).abs().max() / f.abs().max()) for f in factors)
    if spread > FIT:
        return (
            "a token's weight depends on its place in the response",
            "give all tokens of a response one weight",
        )
    for cause, (formula, cure) in LENGTHS.items():
        shares = [
            f.mean(dim=1) / formula(batch.length.double(), batch.logp.shape[1])
            for f, batch in zip(factors, groups, strict=True)
        ]
        every = torch.cat(shares)
        if float((every - every.mean()).abs().max()) <= FIT * abs(float(every.mean())):
            return cause, cure
    return "", ""


LENGTH_SETS = ((1, 2, 3, 5), (2, 2, 4, 1), (3, 1, 1, 1), (4, 4, 2, 3))
FIT = 1e-4
"""Relative misfit of a formula; float32 fits as well."""


def factor_of(subject: Subject, batch: Batch) -> Float[Tensor, "G T"]:
    """c[i,t] / A[i], A what a loss is fed, or the centred reward; tokens behind a response repeat its first.

    Raises ValueError where the subject does.
    """
    given = subject.estimator
    A = given.advantages(batch) if isinstance(given, from_loss) else batch.reward - batch.reward.mean()
    c = subject.weights(batch) / A.reshape(len(batch.reward), -1)
    if not isinstance(given, from_loss):
        # A scale of the advantages is not a matter of lengths: the same rewards at one length have it too.
        level = probes.group((2,) * len(batch.reward), batch.reward.tolist())
        c = c / float((subject.weights(level)[:, 0] / A).abs().mean())
    return c.where(batch.mask, c[:, :1])


def of_rewards(subject: Subject) -> tuple[str, str]:
    """(cause, cure) of a bias at one length; ('', '') where no formula fits."""
    try:
        if isinstance(subject.estimator, from_loss):
            return of_signs(subject)
        factors = []
        for rewards in ((0.0, 1.0, 3.0, 0.5), (0.0, 1.0, 1.0, 0.0), (2.0, 0.0, 0.25, 1.0)):
            batch = probes.group((2, 2, 2, 2), rewards)
            centred = batch.reward - batch.reward.mean()
            share = subject.weights(batch)[:, 0] / centred
            if float((share - share.mean()).abs().max()) > FIT * abs(float(share.mean())):
                return of_signs(subject)
            factors.append(float(share.mean()) * float(centred.square().mean().sqrt()))
    except ValueError:
        return "", ""
    if max(factors) - min(factors) <= 1e-3 * abs(max(factors)):
        return "rewards divided by the standard deviation of their own group", STANDARD
    return "", ""


def of_signs(subject: Subject) -> tuple[str, str]:
    """Whether advantages of one sign have other weights than those of the other."""
    given = subject.estimator
    batch = probes.group((2, 2, 2, 2), (0.0, 1.0, 3.0, 0.5))
    A = given.advantages(batch) if isinstance(given, from_loss) else batch.reward - batch.reward.mean()
    A = A.reshape(4, -1)[:, 0]
    share = subject.weights(batch)[:, 0] / A
    up, down = (float(share[chosen].mean()) for chosen in (A > 0, A < 0))
    if abs(up - down) > 1e-3 * max(abs(up), abs(down)):
        few, many = ("A > 0", "A < 0") if abs(up) < abs(down) else ("A < 0", "A > 0")
        kept = min(abs(up), abs(down)) / max(abs(up), abs(down))
        return (
            f"tokens with {few} keep {100 * kept:.3g} % of the weight of those with {many}",
            f"let the bound act on {many} alone, or on neither while the ratio is 1",
        )
    return "", ""
