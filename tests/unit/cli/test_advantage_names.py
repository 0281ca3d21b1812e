"""advantage_names.py: what --advantage names, and what it refuses without running anything."""

import pytest

from ticgrpo_theory.cli.advantage_names import advantage_of, call_of
from ticgrpo_theory.estimators.advantages import centred, standardised


def test_a_name_with_and_without_parameters():
    assert advantage_of("centred") == centred()
    assert advantage_of("standardised(delta=0.5, ddof=1)") == standardised(delta=0.5, ddof=1)
    assert call_of("standardised(delta=1e-3)") == ("standardised", {"delta": 1e-3})


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("centered", "no advantage 'centered'; the nearest is 'centred'"),
        (
            "standardised(delt=1)",
            "the advantage standardised has no parameter 'delt'; the nearest is",
        ),
        ("standardised(1)", "write a name, or name"),
        ("standardised(delta=True)", "write a name, or name"),
        ("standardised(delta=open('x'))", "write a name, or name"),
        ("standardised(", "write a name, or name"),
        ("a + b", "write a name, or name"),
        ("math:pi", "advantage = math:pi is float; it must be a function of the rewards"),
        ("fractions:Fraction", "advantage = fractions:Fraction is a class"),
    ],
)
def test_what_names_no_advantage_is_refused_with_the_way_out(written, said):
    with pytest.raises(ValueError) as refused:
        advantage_of(written)
    assert said in str(refused.value)
