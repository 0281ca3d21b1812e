"""The estimator that a configuration names: every parameter reaches it, and nothing else does."""

import dataclasses

import pytest
import torch

from llm.config import estimator
from llm.config.sections import EstimatorConfig, KLConfig
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, FIRST
from ticgrpo_theory.estimators.clipping import dual
from ticgrpo_theory.estimators.estimator import Estimator

NO_KL = KLConfig()


@pytest.mark.parametrize("name", FIRST)
def test_a_name_alone_is_the_entry_of_the_catalogue(name: str) -> None:
    assert estimator.estimator(EstimatorConfig(name), NO_KL) == ESTIMATORS[name]


def batch() -> Batch:
    """Unequal lengths and rewards, ratios inside, above and below every clip."""
    logp = torch.tensor([[-1.0, -2.0, -0.5], [-1.5, -0.25, -1.0], [-4.0, -1.0, -0.1]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    old = logp + torch.tensor([[0.5, -1.0, 0.0], [-0.9, 0.1, 0.02], [3.5, 0.0, 0.0]], dtype=torch.float64)
    reward = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
    return Batch(logp, old, reward, mask, logp_ref=logp - 0.3, horizon=7)


KNOBS = [
    EstimatorConfig("dapo", eps_low=0.05),
    EstimatorConfig("dapo", eps_high=5.0),
    EstimatorConfig("dapo", delta=0.5),
    EstimatorConfig("dapo", ddof=1),
    EstimatorConfig("dapo", scale="sequence_mean"),
    EstimatorConfig("dapo", scale="constant"),
    EstimatorConfig("dapo", cap=1.5),
    EstimatorConfig("dapo", cap=1000.0, log_limit=0.3),
    EstimatorConfig("tic_grpo_released", rate=1.0),
    EstimatorConfig("seq_clip", cap=1.5),
    EstimatorConfig("gmpo", lower=0.01),
    EstimatorConfig("gmpo", upper=2.0),
]


@pytest.mark.parametrize("knob", KNOBS, ids=str)
def test_every_parameter_changes_the_weights(knob: EstimatorConfig) -> None:
    changed = estimator.estimator(knob, NO_KL).token_weights(batch())
    assert not torch.allclose(changed, ESTIMATORS[knob.name].token_weights(batch()))


def test_a_cap_makes_the_two_sided_clip_dual() -> None:
    built = estimator.estimator(EstimatorConfig("dapo", eps_low=0.1, cap=10.0), NO_KL)
    assert built.clip == dual(0.1, 0.28, 10.0)


@pytest.mark.parametrize("place", ["loss", "reward"])
@pytest.mark.parametrize("divergence", ["k1", "k2", "k3"])
def test_a_penalty_changes_the_weights(place: str, divergence: str) -> None:
    kl = KLConfig(beta=0.5, reference="initial", divergence=divergence, place=place)  # type: ignore[arg-type]
    b = batch()
    b = dataclasses.replace(b, logp_ref=b.logp - torch.tensor([0.3, 0.1, 0.7], dtype=torch.float64))
    weights = estimator.estimator(EstimatorConfig("grpo"), kl).token_weights(b)
    assert not torch.allclose(weights, ESTIMATORS["grpo"].token_weights(b))


OWN = ESTIMATORS["grpo"]


def own(eps_high: float = 0.5) -> Estimator:
    return dataclasses.replace(OWN, clip=dual(0.2, eps_high))


def test_an_estimator_of_ones_own_is_found_by_module_and_attribute() -> None:
    assert estimator.estimator(EstimatorConfig(f"{__name__}:OWN"), NO_KL) is OWN
    built = estimator.estimator(EstimatorConfig(f"{__name__}:own", eps_high=0.75), NO_KL)
    assert built == own(0.75)
    with pytest.raises(ValueError, match="has no such parameter; it takes eps_high"):
        estimator.estimator(EstimatorConfig(f"{__name__}:own", eps_low=0.75), NO_KL)


class BlackBox:
    def token_weights(self, batch: Batch) -> torch.Tensor:
        return batch.logp


BOX = BlackBox()


def test_a_black_box_has_no_axes_to_change() -> None:
    assert estimator.estimator(EstimatorConfig(f"{__name__}:BOX"), NO_KL) is BOX
    with pytest.raises(ValueError, match=r"estimator\.ddof = 1: .*:BOX has no axes to change"):
        estimator.estimator(EstimatorConfig(f"{__name__}:BOX", ddof=1), NO_KL)
    with pytest.raises(ValueError, match=r"kl\.beta = 0\.1: .*:BOX has no axis for a penalty"):
        estimator.estimator(EstimatorConfig(f"{__name__}:BOX"), KLConfig(0.1, "initial"))
