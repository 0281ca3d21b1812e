"""Any other estimator: a callable that is differentiated on the log-probabilities.

`Objective(f)`: f(batch) -> scalar, to be maximised, for one group (no leading axes).
`from_loss(loss, advantage)`: loss(logp, logp_old, advantages, mask) -> scalar, to be minimised, as trainers
write it; negated here, once. Token weights are c[i,t] = d objective / d logp[i,t], one autograd call.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.advantages import Advantage
from ticgrpo_theory.estimators.estimator import Score, current

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def differentiate(objective: Callable[[Batch], Tensor], batch: Batch) -> Float[Tensor, "G T"]:
    """c[i,t] = d objective / d logp[i,t]; 0 on padding and where the objective does not read logp."""
    logp = batch.logp.detach().where(batch.mask, 0.0).requires_grad_()
    # Callables multiply by the mask, and NaN * 0 is NaN: padding is blanked before they see it.
    logp_ref = None if batch.logp_ref is None else batch.logp_ref.where(batch.mask, 0.0)
    blanked = {"logp": logp, "logp_old": batch.logp_old.where(batch.mask, 0.0), "logp_ref": logp_ref}
    with torch.enable_grad():
        value = objective(dataclasses.replace(batch, **blanked))
        if value.ndim != 0:
            raise ValueError(
                f"the objective returned shape {tuple(value.shape)} for one group; it must return a scalar: "
                f"reduce it over responses and tokens inside the callable"
            )
        if not value.requires_grad:
            raise ValueError("the objective does not depend on batch.logp: nothing to differentiate")
        (c,) = torch.autograd.grad(value, logp, allow_unused=True)
    c = torch.zeros_like(logp) if c is None else c
    if not bool(torch.isfinite(c).all()):
        raise ValueError(
            f"the gradient of the objective is {c[~torch.isfinite(c)][0].item()} at a token; the largest "
            f"log-ratio of the group is {batch.log_ratio.max().item():.6g}: bound it before the exponential"
        )
    return c.where(batch.mask, 0.0)


@dataclass(frozen=True)
class Objective:
    """A black box: f(batch) -> scalar to be maximised, for one group."""

    f: Callable[[Batch], Tensor]
    score: Score = current

    def token_weights(self, batch: Batch) -> Float[Tensor, "*b G T"]:
        """c[i,t] = df / d logp[i,t], one group after another over the leading axes."""
        batch.check()
        c = torch.empty_like(batch.logp)
        for index in product(*(range(n) for n in batch.logp.shape[:-2])):
            c[index] = differentiate(self.f, one_group(batch, index))
        return c

    def describe(self) -> str:
        return f"callable {getattr(self.f, '__name__', repr(self.f))}"


@dataclass(frozen=True)
class from_loss:
    """A trainer's loss(logp, logp_old, advantages, mask) -> scalar of one group, and the advantage it is fed.

    logp, logp_old, mask are [G, T], advantages [G]; the loss is minimised, so the objective is its negative.
    """

    loss: Loss
    advantage: Advantage
    score: Score = current

    def weights_given(self, batch: Batch, A: Float[Tensor, " G"]) -> Float[Tensor, "G T"]:
        """c[i,t] for one group whose advantages are given, whatever its rewards."""
        return differentiate(lambda b: -self.loss(b.logp, b.logp_old, A, b.mask), batch)

    def token_weights(self, batch: Batch) -> Float[Tensor, "*b G T"]:
        """c[i,t] = - d loss / d logp[i,t], one group after another over the leading axes."""
        batch.check()
        A = self.advantage(batch.reward)
        c = torch.empty_like(batch.logp)
        for index in product(*(range(n) for n in batch.logp.shape[:-2])):
            c[index] = self.weights_given(one_group(batch, index), A[index])
        return c

    def describe(self) -> str:
        return f"loss {getattr(self.loss, '__name__', repr(self.loss))}, advantage={self.advantage!r}"

    def check_one_response_form(self) -> None:
        """Raise ValueError unless G c[i,t] = A+ c(1) + |A-| c(-1), A = A[i], with c of response i alone.

        Probed on a fixed group of unequal lengths with log-ratios inside and outside every customary clip.
        """
        mask = torch.tensor([[True] * 4, [True, True, False, False], [True, True, True, False]])
        steps = torch.tensor([0.05, -0.35, 0.45, -0.04, 0.02, 1.7, -2.1, 0.11, -0.55, 0.31, 0.9, 0.03])
        logp_old = torch.full((3, 4), -1.5, dtype=torch.float64)
        batch = Batch(
            logp_old + steps.double().reshape(3, 4), logp_old, torch.zeros(3).double(), mask, horizon=4
        )
        for signs in product((1.0, -1.0), repeat=3):
            # From a thousandth to hundreds: a loss that clamps or squashes its advantages shows at the ends.
            A = torch.tensor(signs).double() * torch.tensor([1e-3, 1.3, 300.0], dtype=torch.float64)
            together = self.weights_given(batch, A)
            for i in range(3):
                alone = self.weights_given(_rows(batch, [i]), A[i : i + 1].sign()) * A[i].abs() / 3
                gap = (together[i : i + 1] - alone).abs().max().item()
                if gap > 1e-9 * max(1.0, A[i].abs().item()):
                    raise ValueError(
                        f"the weights of {self.describe()} are not (1/G) (A+ c(1) + |A-| c(-1)) of the "
                        f"response alone: at A = {A[i].item():g} they differ by {gap:.3g}; "
                        f"use expected_gradient(..., method='groups'), which assumes nothing"
                    )


def one_group(batch: Batch, index: tuple[int, ...]) -> Batch:
    """The group at `index` of the leading axes."""
    tensors = {
        name: getattr(batch, name)[index]
        for name in ("logp", "logp_old", "reward", "mask", "logp_ref")
        if getattr(batch, name) is not None
    }
    return dataclasses.replace(batch, **tensors)


def _rows(batch: Batch, rows: list[int]) -> Batch:
    return dataclasses.replace(
        batch,
        logp=batch.logp[rows],
        logp_old=batch.logp_old[rows],
        reward=batch.reward[rows],
        mask=batch.mask[rows],
    )
