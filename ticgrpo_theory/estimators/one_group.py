"""Black boxes see one group at a time, as their authors wrote them: nothing can leak between groups.

`Apart` evaluates a function of one group on many. Where `torch.func.vmap` takes it, groups of one width are
evaluated together, which is the same map by construction of vmap; some of every call are evaluated alone as
well and must agree. Where it does not (control flow that reads data, `.item()`, in-place work), groups follow
one after another.

A group is handed over as trainers hold it: as wide as its longest response, with fresh tensors.
"""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.properties import NEGLIGIBLE, RELATIVE

LOG_PROBABILITIES = ("logp", "logp_old", "logp_ref", "logp_sampler")
TABLES = (*LOG_PROBABILITIES, "mask", "tokens")
VECTORS = ("reward", "truncated", "group")
OfGroup = Callable[[Batch], Tensor]

BLANK = -0.7
"""Log-probability behind a response where the caller has no number there."""

FIRST_ALONE = 8
"""Groups of the first call that are evaluated alone as well; later calls do so with one."""


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch by name."""
    return {name: value for name in (*TABLES, *VECTORS) if (value := getattr(batch, name)) is not None}


def picked(batch: Batch, index: Int64[Tensor, " n"] | int, width: int | None = None) -> Batch:
    """Groups `index` of a batch with one leading axis, cut to `width`, in tensors of their own."""
    found = tensors_of(batch)
    cut = {name: x[index] if name in VECTORS else x[index][..., :width] for name, x in found.items()}
    for name in LOG_PROBABILITIES:
        if name in cut:
            # NaN behind a response would stay NaN under a product with the mask.
            here = cut[name]
            cut[name] = here.where(cut["mask"] | torch.isfinite(here), BLANK)
    return dataclasses.replace(batch, **{name: x.clone() for name, x in cut.items()})


class Watch(TorchFunctionMode):
    """What a user's function does to tensors: whether PyTorch refused something, and how narrow it computes.

    A function may swallow the exception by which vmap refuses to read data, and go on with something else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused = False
        self.narrowest = torch.float64

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            found = func(*args, **(kwargs or {}))
        except Exception:
            self.refused = True
            raise
        if isinstance(found, Tensor) and found.dtype in FLOATS and found.dtype != torch.float64:
            # Numbers that were float64 and are not any more; a mask that becomes float32 loses nothing.
            cast = any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in args)
            if cast and torch.finfo(found.dtype).eps > torch.finfo(self.narrowest).eps:
                self.narrowest = found.dtype
        return found


def in_place(name: str) -> str:
    """What is said of a function that changes what it is given."""
    return (
        f"the objective changes batch.{name} in place: work on a copy, batch.{name}.clone(), or the number "
        f"depends on how often it is called"
    )


FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass
class Apart:
    """A function of one group [G, T], evaluated on groups [*b, G, T]; its value is [G, T] for each."""

    alone: OfGroup
    """With every check, for one group."""
    inside: OfGroup
    """The same formula without checks, for vmap."""
    together: bool = True
    """Whether vmap takes the function, as far as is known."""
    depends: bool = False
    """Whether any group so far had a value that reads its log-probabilities."""
    dtype: torch.dtype = torch.float64
    """The narrowest in which it was seen to compute."""
    calls: int = 0

    def __call__(self, batch: Batch) -> Float[Tensor, "*b G T"]:
        """The value for every group; padding beyond a group's own width gets 0."""
        lead = batch.logp.shape[:-2]
        flat = {name: x.reshape(-1, *x.shape[len(lead) :]) for name, x in tensors_of(batch).items()}
        every = dataclasses.replace(batch, **flat)
        out = torch.zeros_like(every.logp)
        # A mask with holes is as wide as its last token.
        last = torch.arange(1, every.mask.shape[-1] + 1, device=every.mask.device)
        widths = (every.mask.any(dim=1) * last).amax(dim=-1)
        for width in widths.unique().tolist():
            index = (widths == width).nonzero()[:, 0]
            out[index, :, :width] = self.of_width(picked(every, index, width))
        return out.reshape(batch.logp.shape)

    def of_width(self, groups: Batch) -> Float[Tensor, "M G T"]:
        """Groups of one width."""
        if groups.logp.dtype != torch.float64:
            self.narrow(groups.logp.dtype)
        if self.together and len(groups.logp) > 1:
            found = self.mapped(groups)
            if found is not None:
                return found
            self.together = False
        return torch.stack([self.watched(picked(groups, i)) for i in range(len(groups.logp))])

    def watched(self, group: Batch) -> Float[Tensor, "G T"]:
        """One group alone; the first ones are looked at closely."""
        self.calls += 1
        if self.calls > FIRST_ALONE:
            return self.alone(group)
        before = {name: x.clone() for name, x in tensors_of(group).items()}
        with Watch() as watch:
            c = self.alone(group)
        for name, x in tensors_of(group).items():
            # NumPy writes to the memory of a tensor without a word to autograd.
            if not bool(torch.equal(x, before[name])):
                raise ValueError(in_place(name))
        self.narrow(watch.narrowest)
        return c

    def narrow(self, dtype: torch.dtype) -> None:
        """Remember the narrowest dtype seen."""
        if torch.finfo(dtype).eps > torch.finfo(self.dtype).eps:
            self.dtype = dtype

    def mapped(self, groups: Batch) -> Float[Tensor, "M G T"] | None:
        """By vmap; None where it does not take the function or does not agree with groups alone."""
        found = tensors_of(groups)
        names = tuple(found)

        def one(*tensors: Tensor) -> Tensor:
            return self.inside(dataclasses.replace(groups, **dict(zip(names, tensors, strict=True))))

        M, watch = len(groups.logp), Watch()
        try:
            with warnings.catch_warnings(), watch:
                warnings.simplefilter("ignore")
                c = torch.func.vmap(one)(*found.values()).detach()
        except Exception:  # what a user's function does wrong it does alone as well, and is named there
            return None
        if watch.refused:
            return None
        self.narrow(watch.narrowest)
        bad = (~torch.isfinite(c)).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        some = [(self.calls + n * max(1, M // FIRST_ALONE)) % M for n in range(FIRST_ALONE)]
        for i in {*bad[:1], *(some if self.calls < FIRST_ALONE else some[:1])}:
            c_alone = self.watched(picked(groups, i))
            gap = float((c_alone - c[i]).abs().max())
            rounding = RELATIVE[self.dtype] * c_alone.abs().max() + NEGLIGIBLE[self.dtype] * c.abs().max()
            if not gap <= float(rounding):
                return None
        self.depends = self.depends or bool(c.any())
        return c


def of_rewards_apart(advantage: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The advantages of many groups of rewards [*b, G], one group at a time."""

    def A(batch: Batch) -> Tensor:
        found = advantage(batch.reward)
        if found.shape != batch.reward.shape:
            raise ValueError(
                f"the advantage {advantage!r} gave shape {tuple(found.shape)} for {batch.reward.shape[-1]} "
                f"rewards: give one number for each response"
            )
        return found[:, None]

    apart = Apart(A, A)

    def every(reward: Tensor) -> Tensor:
        zeros = torch.zeros((*reward.shape, 1), dtype=torch.float64)
        return apart(Batch(zeros, zeros, reward, torch.ones_like(zeros, dtype=torch.bool)))[..., 0]

    return every
