"""The compiled formula is the estimator's, on any group; what loops cannot hold is refused."""

import dataclasses
import math

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.strategies import GroupCase, eighths, groups
from tests.properties.tolerances import EXACT
from tests.thinned import one_in
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import raw
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.simulate.engines import engine_compiled
from ticgrpo_theory.simulate.engines.engine_compiled import ROW, build, compiled, exponential, source_file
from ticgrpo_theory.simulate.engines.formula_to_loops import Translation
from ticgrpo_theory.simulate.engines.recorder import Untraceable, record
from ticgrpo_theory.worlds.kernels import vexp

NAMES = sorted(FIRST)
G, T = 3, 6
"""Sizes of most groups here: each size is compiled for itself."""


@numba.njit
def call(f, *arguments):
    f(*arguments)


def compiled_weights(estimator: Estimator, batch: Batch, horizon: int) -> torch.Tensor:
    """c of the compiled formula for one group padded to `horizon` tokens; 0 at padding."""
    size, length = batch.mask.shape
    formula = compiled(estimator, size, horizon)

    def by_token(x: torch.Tensor) -> np.ndarray:
        wide = torch.zeros((horizon, size), dtype=x.dtype)
        wide[:length] = x.where(batch.mask, torch.zeros((), dtype=x.dtype)).T
        return wide.numpy()

    logp, logp_old, mask = by_token(batch.logp), by_token(batch.logp_old), by_token(batch.mask)
    A, scratch = np.empty(size), np.empty(formula.scratch)
    call(formula.coefficients, batch.reward.numpy().copy(), mask, scratch, A)
    out = np.full((horizon, size), math.nan)
    call(formula.weights, logp, logp_old, A, mask, scratch, out)
    return torch.from_numpy(out).T


def assert_formula_is_the_estimators(estimator: Estimator, batch: Batch) -> None:
    found = compiled_weights(estimator, batch, T)
    expected = torch.zeros_like(found)
    expected[:, : batch.mask.shape[1]] = estimator.token_weights(batch)
    torch.testing.assert_close(found, expected, **EXACT)


def check_formula(name: str, case: GroupCase) -> None:
    assert_formula_is_the_estimators(ESTIMATORS[name], dataclasses.replace(case.batch, horizon=T))


@pytest.mark.parametrize("name", one_in(8, NAMES))
@given(case=groups(min_size=G, max_size=G))
@settings(max_examples=20)
def test_the_compiled_formula_is_the_estimators(name, case):
    check_formula(name, case)


@given(rewards=st.lists(eighths(-1, 1) | st.just(0.1), min_size=G, max_size=G), name=st.sampled_from(NAMES))
@settings(max_examples=30)
def test_equal_and_unequal_rewards(rewards, name):
    """Equal rewards of 0.1 have a rounded mean: their advantages are exactly 0 all the same."""
    reward, mask = torch.tensor(rewards, dtype=torch.float64), torch.ones(G, 2, dtype=torch.bool)
    logp, logp_old = (torch.full((G, 2), x).double() for x in (-1.0, -1.1))
    assert_formula_is_the_estimators(ESTIMATORS[name], Batch(logp, logp_old, reward, mask, horizon=T))


def test_log_ratios_of_a_thousand_are_bounds_or_overflow():
    """A clip keeps +-1000 finite; without one the weight is infinite, which freezes a replicate."""
    logp_old = torch.tensor([[-1.0], [-1001.0], [-1.0]], dtype=torch.float64)
    logp = torch.tensor([[-1001.0], [-1.0], [-1.0]], dtype=torch.float64)
    batch = Batch(logp, logp_old, torch.tensor([1.0, 0.5, 0.0]).double(), torch.ones(3, 1) > 0, horizon=T)
    for name in ("grpo", "tic_grpo", "cispo", "seq_clip"):
        assert_formula_is_the_estimators(ESTIMATORS[name], batch)
    free = Estimator(token, raw(), unclipped(), sequence_mean)
    assert compiled_weights(free, batch, T)[:, 0].tolist() == [0.0, math.inf, 0.0]


def test_no_number_is_treated_as_torch_treats_it():
    """A gate is closed to NaN, a saturating clip lets it through."""
    logp_old, mask = torch.full((3, 1), -1.0).double(), torch.ones(3, 1) > 0
    logp = torch.tensor([[math.nan], [-1.5], [-0.5]], dtype=torch.float64)
    batch = Batch(logp, logp_old, torch.tensor([1.0, 0.5, 0.0]).double(), mask, horizon=T)
    for name in ("grpo", "cispo", "gspo", "gmpo"):
        estimator = ESTIMATORS[name]
        A = estimator.advantages(batch) * estimator.scales(mask, T)
        expected = estimator.response_weights(logp - logp_old, A, mask)
        found = compiled_weights(estimator, batch, T)[:, :1]
        torch.testing.assert_close(found, expected, equal_nan=True, **EXACT)
    assert compiled_weights(ESTIMATORS["cispo"], batch, T)[0, 0].isnan()


def test_the_formula_is_compiled_once_for_each_size():
    estimator = ESTIMATORS["grpo"]
    assert compiled(estimator, G, T) is compiled(dataclasses.replace(estimator), G, T)
    assert compiled(estimator, G, T) is not compiled(estimator, G, T + 1)
    assert compiled(estimator, G, T) is not compiled(ESTIMATORS["dapo"], G, T)


def test_the_machine_code_of_a_formula_is_kept_by_its_text(monkeypatch):
    """Another text, or another function inside, is another file; none where the disk is full."""
    first = source_file(exponential, "one")
    assert first is not None and first.read_text() == "one" and source_file(exponential, "one") == first
    assert source_file(exponential, "other") != first != source_file(vexp, "one")
    monkeypatch.setattr(engine_compiled, "replace_files", no_space)
    assert source_file(exponential, "a third") is None
    made = build("def f(x, out):\n    out[0] = exp(x[0])\n", (ROW, ROW))
    assert made.address


def no_space(files) -> None:
    raise OSError(28, "No space left on device")


def source(formula, *arguments: tuple[tuple, str, torch.Tensor]) -> str:
    graph = record(formula, [example for _, _, example in arguments])
    translation = Translation(graph, [(axes, text) for axes, text, _ in arguments], {"i": 2, "t": 3})
    return translation.source("f", ["x"], "out[t, i]", "ti")


TABLE = (("i", "t"), "x[t, i]", torch.zeros(2, 3, dtype=torch.float64))


def test_loops_that_a_reader_can_follow():
    """A sum over tokens needs its loops done before anything reads it; what both loops read is kept."""
    text = source(lambda x: (2 * x) * (2 * x).sum(-1, keepdim=True).exp(), TABLE)
    assert text == (
        "def f(x, scratch, out):\n"
        "    for i in range(2):\n"
        "        scratch[0 + i] = 0.0\n"
        "    for t in range(3):\n"
        "        for i in range(2):\n"
        "            v1 = x[t, i] * (2)\n"
        "            scratch[2 + t * 2 + i] = v1\n"
        "            v2 = x[t, i] * (2)\n"
        "            scratch[0 + i] = scratch[0 + i] + v2\n"
        "    for i in range(2):\n"
        "        v3 = exp(scratch[0 + i])\n"
        "        scratch[8 + i] = v3\n"
        "    for t in range(3):\n"
        "        for i in range(2):\n"
        "            v4 = scratch[2 + t * 2 + i] * scratch[8 + i]\n"
        "            out[t, i] = v4\n"
    )


def changed(x: torch.Tensor) -> torch.Tensor:
    """x after a change in place of a view of it, which nobody reads by its own name."""
    x.unsqueeze(-1).add_(1.0)
    return x


OUTSIDE = torch.ones(3, dtype=torch.float64)
UNTRACEABLE = {
    "sorting": (lambda x: x.sort(dim=-1).values, "sort"),
    "decisions": (lambda x: x if bool((x > 0).any()) else -x, "reads a number"),
    "single precision": (lambda x: x.float().exp().double(), "torch.float32"),
    "tensors from outside": (lambda x: x + OUTSIDE, "from outside"),
    "sums over responses for each token": (lambda x: x - x.sum(dim=0), "each token position"),
    "running sums over responses": (lambda x: x.cumsum(dim=0), "cumsum"),
    "other powers": (lambda x: x**3, "pow"),
    "changes of a part": (lambda x: changed(x * 2), "add_"),
    "transposed": (lambda x: x.T @ x, "argument"),
}


@pytest.mark.parametrize("name", UNTRACEABLE)
def test_what_the_loops_cannot_express_is_refused(name):
    formula, reason = UNTRACEABLE[name]
    with pytest.raises(Untraceable, match=reason):
        source(formula, TABLE)


FORMULAS = [
    lambda x: x.mean() + x,
    lambda x: x - x.mean(dim=-1, keepdim=True),
    lambda x: (x - x.amax(dim=-1, keepdim=True)).exp().cumsum(dim=-1),
    lambda x: x.clamp(min=-0.5).minimum(torch.full_like(x, 0.25)),
    lambda x: x.clamp(max=0.5).maximum(torch.zeros_like(x)) / (1 + x.abs()),
    lambda x: torch.where((x > 0) | ~(x >= -1), x.square(), -x).log1p(),
    lambda x: torch.expm1(x).masked_fill(x < 0, 2.0) * (x.amin() == x.amax()),
    lambda x: 1 - x.sqrt(),
    lambda x: (x.sum(dim=-1) / x.sum()).unsqueeze(-1).expand_as(x).reciprocal(),
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_loops_compute_what_tensors_do(formula):
    x = (torch.arange(6.0).reshape(2, 3).double() - 2) / 2
    out, scratch = np.zeros((3, 2)), np.zeros(100)
    namespace = {"math": math, "exp": math.exp}
    exec(source(formula, TABLE), namespace)
    numba.njit(namespace["f"], error_model="numpy")(x.T.contiguous().numpy(), scratch, out)
    torch.testing.assert_close(torch.from_numpy(out).T, formula(x), equal_nan=True, **EXACT)
