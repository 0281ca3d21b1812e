"""Worlds, estimators and samplers by name, with what they are and where they come from."""

import dataclasses
import inspect
from typing import Any

from rich.console import Console
from rich.table import Table

from ticgrpo_theory.cli.output import Answer
from ticgrpo_theory.estimators.catalogue import CITATIONS, ESTIMATORS, FACTORIES, UNVERIFIED
from ticgrpo_theory.worlds.catalogue import WORLDS
from ticgrpo_theory.worlds.samplers import VLLM

FORMULA = "g_hat = sum c[i,t] grad log pi(a[i,t]), c = scale A exp(clamp(v, lo, hi)) (lo <= v <= hi)"


def answer() -> Answer:
    """Everything that has a name."""
    worlds = []
    for name, world in WORLDS.items():
        mdp = world.build()
        sizes = {"rows": mdp.num_rows, "vocab_size": mdp.vocab_size, "horizon": mdp.horizon}
        worlds.append({"name": name, **sizes, "prompts": len(mdp.prompts), "reason": world.reason})
    estimators = [
        {
            "name": factory.__name__,
            "parameters": {p.name: p.default for p in inspect.signature(factory).parameters.values()},
            "axes": axes(factory.__name__),
            "source": CITATIONS[factory.__name__],
        }
        for factory in FACTORIES
    ]
    samplers = [
        {
            "name": kind.__name__,
            "written": ",".join(f"{name}=..." for name in kind.parameters) or kind.__name__,
            "formula": first_sentences(kind.__doc__ or ""),
        }
        for kind in VLLM
    ]
    found = {"worlds": worlds, "formula": FORMULA, "formulas": formulas(), "estimators": estimators}
    unverified = [
        {"name": name, "source": source, "missing": missing} for name, (source, missing) in UNVERIFIED.items()
    ]
    return {**found, "samplers": samplers, "unverified": unverified}


def axes(name: str) -> dict[str, str]:
    """The choice on each axis, by the name of its formula; those that are left alone are not there."""
    estimator = ESTIMATORS[name]
    defaults = {field.name: field.default for field in dataclasses.fields(estimator)}
    chosen = {axis: getattr(estimator, axis) for axis in defaults}
    return {axis: called(x) for axis, x in chosen.items() if x is not defaults[axis]}


def formulas() -> dict[str, str]:
    """The first line of the docstring of every choice that the catalogue makes, which is its formula."""
    found: dict[str, str] = {}
    for estimator in ESTIMATORS.values():
        for field in dataclasses.fields(estimator):
            choice = getattr(estimator, field.name)
            if choice is not None:
                documented = choice if hasattr(choice, "__name__") else type(choice)
                found[called(choice).partition("(")[0]] = first_sentences(documented.__doc__ or "")
    return found


def called(choice: Any) -> str:
    return getattr(choice, "__name__", None) or repr(choice)


def first_sentences(text: str) -> str:
    """The first paragraph, without its source."""
    return " ".join(text.partition("\n\n")[0].split()).partition("Source:")[0].strip()


def show(found: Answer, console: Console) -> None:
    """Worlds, estimators, what is none of them, the formulas that their axes name, and samplers."""
    worlds = Table("world", "S x V", "T", "why it exists", title="Worlds", show_lines=True)
    for world in found["worlds"]:
        size = f"{world['rows']} x {world['vocab_size']}"
        worlds.add_row(world["name"], size, str(world["horizon"]), world["reason"])
    estimators = Table("estimator", "axes", "source", title="Estimators", show_lines=True)
    for estimator in found["estimators"]:
        lines = [f"{axis} {choice}" for axis, choice in estimator["axes"].items()]
        estimators.add_row(estimator["name"], "\n".join(lines), estimator["source"])
    unverified = Table("no line", "source", "what is missing", title="Not verified", show_lines=True)
    for entry in found["unverified"]:
        unverified.add_row(entry["name"], entry["source"], entry["missing"])
    legend = Table("name", "formula", title="Formulas of the axes", show_lines=True)
    for name, formula in found["formulas"].items():
        legend.add_row(name, formula)
    samplers = Table("--sampler", "what it draws", title="Samplers, in their order", show_lines=True)
    for sampler in found["samplers"]:
        samplers.add_row(sampler["written"], sampler["formula"])
    for each in (worlds, estimators, unverified, legend, found["formula"], samplers):
        console.print(each)
