"""Logits [S, V] of a policy, from a file: .npy, .pt, .json, .yaml or .csv. Nothing in a file is run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.cli.options import Drawing
from ticgrpo_theory.cli.world_files import numbers
from ticgrpo_theory.experiment.yaml_fields import parsed
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import logits
from ticgrpo_theory.worlds.samplers import parse_sampler


def logits_of_file(path: Path, mdp: TokenMDP, option: str) -> Float[Tensor, "S V"]:
    """The table, checked; `option` names it in errors.

    Raises ValueError for a file that cannot be read, a wrong shape, NaN, +inf, and rows of only -inf.
    """
    where = f"{option} {path}"
    needed = f"give logits [S, V] = [{mdp.num_rows}, {mdp.vocab_size}] as one of {', '.join(READERS)}"
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{where} is of an unknown kind {path.suffix!r}; {needed}")
    try:
        found = torch.as_tensor(READERS[path.suffix.lower()](path))
    # Every reader has exceptions of its own for a file that is none of its kind.
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{where} cannot be read ({type(error).__name__}: {said}); {needed}") from error
    if found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"{where} holds {found.dtype}; {needed}")
    return logits(mdp, found, where)


def drawn_by(
    drawing: Drawing, mdp: TokenMDP, theta_old: Float[Tensor, "S V"]
) -> tuple[str, Float[Tensor, "S V"] | None]:
    """How the policy that draws is called, and its logits; ("", None) for theta_old.

    Raises ValueError where it is given twice, and as `parse_sampler` and `logits_of_file` do.
    """
    if drawing.sampler is not None and drawing.theta_sampler is not None:
        raise ValueError(
            f"--sampler {drawing.sampler} and --theta-sampler {drawing.theta_sampler} both say who draws: "
            f"give one of them"
        )
    if drawing.sampler is not None:
        sampler = parse_sampler(drawing.sampler)
        return str(sampler), sampler(theta_old)
    if drawing.theta_sampler is not None:
        return str(drawing.theta_sampler), logits_of_file(drawing.theta_sampler, mdp, "--theta-sampler")
    return "", None


def of_pt(path: Path) -> Tensor:
    found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, Tensor):
        raise ValueError(f"it holds {type(found).__name__}, not a tensor: save the table of logits alone")
    return found.detach()


def of_text(parse: Callable[[str, str], Any]) -> Callable[[Path], Tensor]:
    """Nested lists of numbers, as YAML or JSON writes them."""
    return lambda path: numbers(parse(path.read_text(encoding="utf-8"), path.name), path.name)


def of_json(text: str, where: str) -> Any:
    return json.loads(text)


READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".pt": of_pt,
    ".json": of_text(of_json),
    ".yaml": of_text(parsed),
    ".yml": of_text(parsed),
    ".csv": lambda path: np.loadtxt(path, delimiter=",", dtype=np.float64, ndmin=2, encoding="utf-8"),
}
