"""The estimator that a configuration names, built by the factories of the catalogue: no formula is here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ticgrpo_theory.estimators import penalties, scales
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, FACTORIES
from ticgrpo_theory.estimators.clipping import dual, two_sided
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.experiment import imports

if TYPE_CHECKING:
    from llm.config.sections import EstimatorConfig, KLConfig

OF_DUAL_CLIP = ("cap", "log_limit")


def estimator(config: EstimatorConfig, kl: KLConfig) -> Any:
    """The named estimator with its parameters, scale and penalty; anything with `token_weights`."""
    factory = imported(config.name) if ":" in config.name else of_catalogue(config.name)
    given = {
        f.name: getattr(config, f.name)
        for f in dataclasses.fields(config)
        if f.name not in ("name", "ddof", "scale") and getattr(config, f.name) is not None
    }
    taken = inspect.signature(factory).parameters
    dualised = {name: given.pop(name) for name in OF_DUAL_CLIP if name in given and name not in taken}
    for name in given:
        if name not in taken:
            raise ValueError(
                f"estimator.{name} = {given[name]}: {config.name} has no such parameter; it takes "
                f"{', '.join(taken) or 'none'}"
            )
    try:
        built = factory(**given)
    except ValueError as error:
        raise ValueError(f"estimator.name = {config.name}: {error}") from error
    return with_penalty(with_axes(built, config, dualised), kl, config.name)


def of_catalogue(name: str) -> Callable[..., Estimator]:
    """The factory of that name, or a ValueError with the nearest names."""
    ESTIMATORS[name]
    return next(factory for factory in FACTORIES if factory.__name__ == name)


def imported(name: str) -> Callable[..., Any]:
    """`module:attribute`: an object with `token_weights`, or a function that returns one."""
    found = imports.imported(name, "estimator.name")
    if hasattr(found, "token_weights") and not isinstance(found, type):
        return lambda: found
    if not callable(found):
        raise ValueError(
            f"estimator.name = {name} is {type(found).__name__}; it must be an estimator, with token_weights("
            f"batch), or a function that returns one"
        )
    return found


def with_axes(built: Any, config: EstimatorConfig, dualised: dict[str, float]) -> Any:
    """The estimator with the dual clip, divisor and scale of the configuration."""
    axes = {**dualised, "ddof": config.ddof, "scale": config.scale}
    given = {name: value for name, value in axes.items() if value is not None}
    if not given:
        return built
    first = next(iter(given))
    if not isinstance(built, Estimator):
        raise ValueError(
            f"estimator.{first} = {given[first]}: {config.name} has no axes to change; set it in that module"
        )
    if dualised:
        if not isinstance(built.clip, two_sided):
            raise ValueError(
                f"estimator.{first} = {given[first]}: a dual clip extends a two-sided clip, and "
                f"{config.name} has {built.clip!r}; take grpo, dapo, gspo, or leave {first} out"
            )
        built = dataclasses.replace(built, clip=dual(built.clip.eps_low, built.clip.eps_high, **dualised))
    if config.ddof is not None:
        if not isinstance(built.advantage, standardised):
            raise ValueError(
                f"estimator.ddof = {config.ddof}: the advantage of {config.name} is {built.advantage!r} and "
                f"has no standard deviation"
            )
        built = dataclasses.replace(built, advantage=dataclasses.replace(built.advantage, ddof=config.ddof))
    if config.scale is not None:
        built = dataclasses.replace(built, scale=getattr(scales, config.scale))
    return built


def with_penalty(built: Any, kl: KLConfig, name: str) -> Any:
    """The estimator with the KL penalty, if there is one."""
    if kl.beta == 0:
        return built
    if not isinstance(built, Estimator):
        raise ValueError(f"kl.beta = {kl.beta}: {name} has no axis for a penalty; put it into that module")
    kind = {"loss": penalties.kl_loss, "reward": penalties.kl_reward}[kl.place]
    return dataclasses.replace(built, penalty=kind(getattr(penalties, kl.divergence), kl.beta))


def pools_lengths(built: Any) -> bool:
    """Whether the scale divides by the tokens of several responses."""
    return isinstance(built, Estimator) and scales.pools_lengths(built.scale)


def min_group(built: Any) -> int:
    """The smallest group for which the advantage is defined."""
    return built.advantage.min_group if hasattr(built, "advantage") else 1
