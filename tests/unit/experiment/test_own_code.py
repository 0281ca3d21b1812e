"""A run in a folder is not taken up with another function of the same name."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import Advantage, centred
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.experiment.imports import module_at
from ticgrpo_theory.experiment.own_code import own_code
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds import WORLDS

XOR = WORLDS["xor"]


def closed_over(factor: Any) -> Callable:
    def objective(batch):
        return (factor * batch.logp.where(batch.mask, 0.0)).sum()

    return objective


def with_default(factor: float) -> Callable:
    def objective(batch, factor=factor):
        return (factor * batch.logp.where(batch.mask, 0.0)).sum()

    return objective


def by_keyword(factor: float) -> Callable:
    def objective(batch, *, factor=factor):
        return (factor * batch.logp.where(batch.mask, 0.0)).sum()

    return objective


def with_constant(factor: float) -> Callable:
    return defined(f"def objective(batch): return ({factor} * batch.logp.where(batch.mask, 0.0)).sum()")


def with_helper(factor: float) -> Callable:
    return defined(
        f"def helper(x): return {factor} * x\n"
        f"def objective(batch): return helper(batch.logp.where(batch.mask, 0.0)).sum()"
    )


def with_global(factor: float) -> Callable:
    return defined(
        f"a = {factor}\ndef objective(batch): return (a * batch.logp.where(batch.mask, 0.0)).sum()"
    )


def inside(factor: float) -> Callable:
    return defined(
        "def objective(batch):\n"
        f"    def inner(x): return {factor} * x\n"
        "    return inner(batch.logp.where(batch.mask, 0.0)).sum()"
    )


def defined(source: str) -> Callable:
    """As in a notebook: a module of one's own."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(source, namespace)
    return namespace["objective"]


def partial(factor: float) -> Callable:
    def scaled(factor, batch):
        return (factor * batch.logp.where(batch.mask, 0.0)).sum()

    return functools.partial(scaled, factor)


def method(factor: float) -> Callable:
    class Model:
        def __init__(self):
            self.factor = factor

        @property
        def doubled(self):
            return 2 * self.factor

        def objective(self, batch):
            return (self.doubled * batch.logp.where(batch.mask, 0.0)).sum()

    return Model().objective


def in_a_property(factor: float) -> Callable:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "class Model:\n"
        "    @property\n"
        f"    def factor(self): return {factor}\n"
        "    def __call__(self, batch): return (self.factor * batch.logp.where(batch.mask, 0.0)).sum()",
        namespace,
    )
    return namespace["Model"]()


def in_a_slot(factor: float) -> Callable:
    @dataclass(slots=True)
    class Model:
        factor: float

        def __call__(self, batch):
            return (self.factor * batch.logp.where(batch.mask, 0.0)).sum()

    return Model(factor)


def in_a_tensor(factor: float) -> Callable:
    return closed_over(torch.tensor([factor], dtype=torch.float64))


def in_a_network(factor: float) -> Callable:
    layer = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    torch.nn.init.constant_(layer.weight, factor)

    def objective(batch):
        return layer(batch.logp.where(batch.mask, 0.0)[..., None]).sum()

    return objective


OWN = (
    closed_over,
    with_default,
    by_keyword,
    with_constant,
    with_helper,
    with_global,
    inside,
    partial,
    method,
    in_a_property,
    in_a_slot,
    in_a_tensor,
    in_a_network,
)


@pytest.mark.parametrize("made", OWN, ids=lambda made: made.__name__)
def test_functions_are_told_apart_by_what_they_say(made):
    one, again, two = (own_code(Objective(made(factor))) for factor in (1.0, 1.0, 2.0))
    assert one == again != two != ""


def test_parts_of_an_estimator_are_looked_at():
    def ratio_of(factor: float) -> Callable:
        def ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
            return factor * log_ratio.where(mask, 0.0)

        return ratio

    def advantage_of(factor: float) -> Advantage:
        @dataclass(frozen=True)
        class own(Advantage):
            def __call__(self, reward: Tensor) -> Tensor:
                return factor * (reward - reward.mean(dim=-1, keepdim=True))

        return own()

    def loss_of(factor: float) -> from_loss:
        return from_loss(lambda logp, old, A, mask: -(factor * A[:, None] * logp * mask).sum(), centred())

    parts = {"ratio": ratio_of, "advantage": advantage_of}
    made = [
        lambda factor, name=name, part=part: dataclasses.replace(ESTIMATORS["grpo"], **{name: part(factor)})
        for name, part in parts.items()
    ]
    for estimator in (*made, loss_of):
        one, again, two = (own_code(estimator(factor)) for factor in (1.0, 1.0, 2.0))
        assert one == again != two != ""


def test_the_catalogue_has_nothing_of_its_own():
    assert not any(own_code(estimator) for estimator in ESTIMATORS.values())


def test_a_run_is_not_taken_up_with_another_function_of_that_name(tmp_path):
    mdp = XOR.build()
    run = {"group_size": 2, "learning_rate": 0.1, "inner_steps": 1, "outer_steps": 2, "replicates": 1}

    def simulated(factor: float):
        return simulate(mdp, XOR.theta_old(mdp), closed_over(factor), folder=tmp_path, **run)

    first = simulated(1.0)
    assert (simulated(1.0).theta == first.theta).all()
    with pytest.raises(
        ValueError, match=r"from before .*test_own_code.py|the functions of the estimator changed"
    ):
        simulated(2.0)


MINE = "import own_helper\n\ndef objective(batch):\n    return own_helper.value(batch)\n"
HELPER = "def value(batch):\n    return (batch.logp * batch.mask).sum()\n"


@pytest.mark.parametrize("name", ["own_mine.py", "own_helper.py"])
def test_a_run_from_before_a_file_was_edited_is_refused_unless_it_is_trusted(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_helper", raising=False)
    files = {"own_mine.py": MINE, "own_helper.py": HELPER, "unrelated.py": "x = 1\n"}
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    mdp = XOR.build()
    run = {"group_size": 2, "learning_rate": 0.1, "inner_steps": 1, "outer_steps": 2, "replicates": 1}

    def simulated(**options: Any):
        own = module_at(str(tmp_path / "own_mine.py"), str(tmp_path)).objective
        return simulate(mdp, XOR.theta_old(mdp), own, folder=tmp_path / "runs", **run, **options)

    first = simulated()
    (tmp_path / "unrelated.py").write_text("x = 2\n")
    assert (simulated().theta == first.theta).all()
    (tmp_path / name).write_text(
        files[name].replace(".sum()", ".mean()").replace("value(batch)\n", "value(batch) / 2\n")
    )
    with pytest.raises(ValueError, match=rf"from before \S*{name} was edited; trust it \(--trust\)"):
        simulated()
    assert (simulated(trust=True).theta == first.theta).all()
