"""shared_row.py: what a correction leaves of responses whose tokens all come from one row."""

import itertools
import math

import pytest
import torch
from scipy import stats

from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators.corrections import LEVELS, masked, product, rejected, truncated
from ticgrpo_theory.exact import correction_mass
from ticgrpo_theory.exact.dynamic import shared_row

KEPT = {
    (0.05, 64): 1.0,
    (0.05, 256): 0.994549,
    (0.05, 1024): 0.836879,
    (0.05, 4096): 0.454043,
    (0.1, 64): 0.993913,
    (0.1, 256): 0.844821,
    (0.1, 1024): 0.448053,
    (0.1, 4096): 0.106449,
    (0.2, 64): 0.860822,
    (0.2, 256): 0.436456,
    (0.2, 1024): 0.110050,
    (0.2, 4096): 0.001220,
}
"""(gap in logits, T) -> share of E_old where responses of a sampler (1/2, 1/2) with W > 3 are dropped."""


@pytest.mark.parametrize(("gap", "T"), KEPT)
def test_what_a_mask_of_whole_responses_keeps(gap, T):
    found = correction_mass(masked("sequence", None, 3.0), [gap, 0.0], [0.0, 0.0], T)
    assert found == pytest.approx(KEPT[gap, T], abs=5e-7)
    # E_mu[W 1{W <= 3}] = P_old(W <= 3): a tail of the binomial distribution of token 0 under theta_old.
    p = 1 / (1 + math.exp(-gap))
    up, down = math.log(2 * p), math.log(2 * (1 - p))
    most = max(n for n in range(T + 1) if n * up + (T - n) * down <= math.log(3.0))
    assert found == pytest.approx(stats.binom.cdf(most, T, p), rel=1e-9)


@pytest.mark.parametrize(("T", "expected"), [(256, 0.949372), (1024, 0.660847), (4096, 0.182636)])
def test_what_a_truncation_of_whole_responses_leaves(T, expected):
    found = correction_mass(truncated("sequence", None, 3.0), [0.1, 0.0], [0.0, 0.0], T)
    assert found == pytest.approx(expected, abs=5e-7)


OLD, SAMPLER = torch.tensor([0.4, -0.3, 0.1]).double(), torch.tensor([0.0, 0.2, -0.5]).double()


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "token"])
@pytest.mark.parametrize("kind", [truncated, masked, rejected])
def test_the_sum_over_counts_is_that_over_all_responses(kind, level):
    correction, total = product((kind(level, 0.8, 1.3), truncated("sequence", None, 2.0))), 0.0
    log_old, log_mu = torch.log_softmax(OLD, 0), torch.log_softmax(SAMPLER, 0)
    for tokens in itertools.product(range(3), repeat=5):
        d, mask = (log_old - log_mu)[list(tokens)], torch.ones(1, 5, dtype=torch.bool)
        phi = correction.weight(d[None], mask)[0]
        assert float(phi.max() - phi.min()) < 1e-12
        total += float(log_mu[list(tokens)].sum().exp() * phi[0])
    torch.testing.assert_close(correction_mass(correction, OLD, SAMPLER, 5), total, **EXACT)


def test_a_token_that_the_sampler_never_draws_has_no_counts():
    cut = torch.tensor([0.0, 0.0, -math.inf]).double()
    two = correction_mass(masked("sequence", None, 0.06), OLD, cut, 7)
    assert two == pytest.approx(correction_mass(masked("sequence", None, 0.06), OLD, cut - 1.0, 7), rel=1e-12)
    assert two < correction_mass(truncated("sequence"), OLD, cut, 7) < 1


REFUSED = [
    (dict(correction=truncated("token", None, 2.0)), r"does not weigh a whole response"),
    (dict(correction=0.5), r"correction = 0.5 does not weigh"),
    (dict(theta_old=[0.0, -math.inf, 0.0]), r"row 0, token 1 is drawn by theta_sampler"),
    (dict(theta_old=[0.0, 0.0]), r"theta_old has 2 logits, theta_sampler 3"),
    (dict(horizon=0), r"horizon = 0 must be >= 1"),
    (dict(horizon=10**6), r"1,000,000 tokens of 3 kinds have .* more than MAX_COUNTS"),
]


@pytest.mark.usefixtures("unchecked_signatures")
@pytest.mark.parametrize(("change", "text"), REFUSED)
def test_what_has_no_answer_is_refused(change, text):
    given = dict(correction=masked("sequence"), theta_old=OLD, theta_sampler=SAMPLER, horizon=3)
    with pytest.raises(ValueError, match=text):
        correction_mass(**(given | change))


def test_counts_add_up():
    found = shared_row.counts_of(4, 3)
    assert len(found) == math.comb(6, 2) == len({tuple(row) for row in found.tolist()})
    assert (found.sum(axis=1) == 4).all()
