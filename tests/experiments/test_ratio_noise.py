"""A policy against itself: no noise in one batching, rounding in another, and a lean only where tokens were
drawn by one of the two."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

from experiments import ratio_noise as experiment_script
from ticgrpo_theory.plots import ratio_noise as plots_ratio_noise

TINY = experiment_script.Config(
    lengths=(4, 8, 16),
    responses=24,
    hidden=32,
    layers=2,
    heads=2,
    head_dim=16,
    intermediate=64,
    vocab_size=64,
)


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return pd.DataFrame(experiment_script.rows(TINY))


def test_the_same_batch_twice_gives_the_same_bits(made):
    assert (made[made.batching == "same"].sd == 0).all()
    # Partner: the cache of the sampler does not.
    longest = made[made.length == max(TINY.lengths)]
    assert (longest[(longest.batching == "sampler") & (longest.precision != "fp32")].sd > 0).all()


def test_bfloat16_is_thousands_of_times_noisier_than_float32(made):
    sampler = made[(made.batching == "sampler") & (made.length == 16)].set_index("precision").sd
    assert sampler["bf16, softmax fp32"] > 1e3 * sampler["fp32"]


def test_the_network_has_the_entropy_that_was_asked_for():
    for entropy in (0.3, 1.5):
        cfg = dataclasses.replace(TINY, entropy=entropy)
        model = experiment_script.network(cfg, torch.float32)
        ids = torch.tensor(experiment_script.prompts(cfg))
        with torch.no_grad():
            pi = model.network(input_ids=ids, use_cache=False).logits.double().softmax(dim=-1)
        assert torch.special.entr(pi).sum(dim=-1).mean().item() == pytest.approx(entropy, abs=1e-4)


def test_rows_summarise_log_ratios_as_documented():
    row = experiment_script.row_of(
        "fp32", "alone", 4, torch.tensor([0.0, 0.2, -0.2, 0.4], dtype=torch.float64)
    )
    sd = math.sqrt((0.01 + 0.01 + 0.09 + 0.09) / 3)
    assert row["sd"] == pytest.approx(sd) and row["mean"] == pytest.approx(0.1)
    assert row["lognormal_mean"] == pytest.approx(-(sd**2) / 2) and row["per_token"] == pytest.approx(sd / 2)
    assert row["worst"] == pytest.approx(math.expm1(0.4))


def test_growth_like_a_square_root_is_told_from_growth_in_proportion():
    rows = [
        {"precision": "bf16", "batching": name, "length": n, "sd": 0.1 * n**power}
        for name, power in (("alone", 0.5), ("wider", 1.0))
        for n in (4, 16, 64)
    ]
    made = pd.DataFrame(rows)
    assert experiment_script.growth(made, "bf16", "alone")[0] == pytest.approx(0.5)
    assert experiment_script.growth(made, "bf16", "wider")[0] == pytest.approx(1.0)


def test_the_figure_draws_every_batching_that_differs(made):
    figure = plots_ratio_noise.ratio_noise(made)
    different = [name for name in ("alone", "wider", "sampler") if (made[made.batching == name].sd > 0).any()]
    assert len(figure.axes) == len(different) + 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"precisions": ("fp16",)}, "unknown entry 'fp16' of precisions; .*precisions: fp32, bf16"),
        ({"lengths": (0,)}, "a response has at least 1 token"),
        ({"responses": 1}, "a standard deviation takes at least 2"),
        ({"entropy": 9.0}, "64 tokens allow more than 0 and less than 4.16 nats"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.rows(dataclasses.replace(TINY, **change))
