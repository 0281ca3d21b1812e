"""Inner products of gradients over all weights, in float64 and in pieces; a word for the weights themselves.

A gradient is a list of tensors in the order of the weights. What is streamed takes PIECE numbers of each
gradient at a time, so that nothing as large as a gradient is added to memory.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

Gradient = list[Tensor]

PIECE = 2**16
"""Numbers of each gradient that are held in float64 at once."""

GIB = 2**30


def gram(gradients: Sequence[Iterable[Tensor]], minus: float = 0.0) -> Float[Tensor, "m m"]:
    """<x_i, x_j> of x_0 = gradients[0] - minus gradients[1] and x_i = gradients[i], i > 0.

    The difference is formed entry by entry before it is squared, so that a small one keeps its digits.
    """
    found = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for tensors in zip(*gradients, strict=True):
        for pieces in zip(*(tensor.detach().flatten().split(PIECE) for tensor in tensors), strict=True):
            X = torch.stack(pieces).double()
            if minus:
                X[0] -= minus * X[1]
            found += (X @ X.T).cpu()
    return found


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of names, types and values of all weights, tied ones once: another word for other weights."""
    code = hashlib.sha256()
    for name, parameter in network.named_parameters():
        code.update(repr((name, tuple(parameter.shape), str(parameter.dtype))).encode())
        code.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return code.hexdigest()


def check_memory(weights: int, itemsize: int, copies: int, device: torch.device) -> None:
    """Raise ValueError where `copies` copies of the weights exceed what is free, before any is made."""
    needed, free = weights * itemsize * copies / GIB, free_memory(device)
    if free is not None and needed > free:
        raise ValueError(
            f"{copies} copies of {weights:,} weights of {itemsize} bytes take {needed:.1f} GiB, and "
            f"{free:.1f} GiB are free: take a smaller model, plain steps in the place of AdamW (two copies "
            f"fewer), or a machine with more memory"
        )


def free_memory(device: torch.device) -> float | None:
    """GiB that can be taken; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / GIB
    told = Path("/proc/meminfo")
    if not told.exists():
        return None
    lines = (line.split() for line in told.read_text(encoding="ascii").splitlines())
    return next(int(words[1]) * 1024 / GIB for words in lines if words[0] == "MemAvailable:")
