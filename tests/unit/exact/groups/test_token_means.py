"""groups/token_means.py: tilted distributions agree with lists of pairs, by hand and on drawn cases."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators import scales
from ticgrpo_theory.estimators.advantage import reads_group
from ticgrpo_theory.estimators.advantages import centred, raw, standardised
from ticgrpo_theory.exact.groups import token_means
from ticgrpo_theory.exact.groups.outcomes import outcomes


def close(found, expected) -> None:
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, **EXACT)


def test_a_pair_of_two_lengths_by_hand():
    # r = 0 with length 1, r = 1 with length 3, p = 1/4, 3/4. A = +-1 in mixed pairs, whose total is 4.
    table = (np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.array([0.25, 0.75]))
    case = outcomes(standardised(0.0), scales.token_mean, *table, 2, None)
    plus, minus = token_means.given_one(case)
    # G E[A / total | r, length] = 2 (3/4) (-1/4) for r = 0 and 2 (1/4) (1/4) for r = 1.
    close([plus[1, 1], plus[0, 0]], [1 / 8, 0.0])
    close([minus[0, 0], minus[1, 1]], [-3 / 8, 0.0])


@st.composite
def rewards_with_lengths(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes with up to three reward values and lengths up to 64."""
    n = draw(st.integers(2, 5))
    reward = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n))
    length = draw(st.lists(st.integers(1, 64), min_size=n, max_size=n, unique=True))
    weight = np.array(draw(st.lists(st.integers(1, 6), min_size=n, max_size=n)), dtype=np.float64)
    return np.array(reward), np.array(length, dtype=np.float64), weight / weight.sum()


@given(st.sampled_from([standardised(0.0), centred(), raw()]), rewards_with_lengths(), st.integers(2, 5))
def test_tilted_distributions_and_listed_pairs_agree_on_token_means(advantage, table, G):
    case = outcomes(advantage, scales.token_mean, *table, G, None)
    if not reads_group(advantage):
        case = token_means.without_rewards(case)
    tilted, listed = token_means.Tilted(case), token_means.Listed(case)
    occurs = token_means.joint_distribution(case) > 0
    close([tilted.given_one()[:, occurs]], [listed.given_one()[:, occurs]])
    pairs = occurs[:, :, None, None] & occurs
    for found, expected, where in zip(tilted.given_two(), listed.given_two(), (occurs, pairs), strict=True):
        close([found[..., where]], [expected[..., where]])


def test_the_same_check_rejects_a_tilt_that_forgets_the_own_length():
    table = (np.array([0.0, 1.0]), np.array([1.0, 9.0]), np.array([0.5, 0.5]))
    case = outcomes(standardised(0.0), scales.token_mean, *table, 3, None)
    tilted, listed = token_means.Tilted(case), token_means.Listed(case)
    object.__setattr__(tilted, "decay", np.exp(-np.outer(tilted.nodes[0], [1.0, 1.0])))
    assert np.abs(tilted.given_one() - listed.given_one()).max() > VISIBLE


def test_only_the_token_mean_itself_is_taken_for_an_inverse_total():
    def inverse_root(length, total_length, group_size, horizon):
        return 1.0 / (length.double() * total_length.double().sqrt())

    table = (np.array([0.0, 1.0]), np.array([1.0, 9.0]), np.array([0.5, 0.5]))
    assert isinstance(
        token_means.strategy(outcomes(raw(), scales.token_mean, *table, 3, None)), token_means.Tilted
    )
    assert isinstance(
        token_means.strategy(outcomes(raw(), inverse_root, *table, 3, None)), token_means.Listed
    )
