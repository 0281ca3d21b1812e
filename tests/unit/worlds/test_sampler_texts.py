"""What samplers refuse, and how they are written."""

import math

import pytest
import torch

from ticgrpo_theory.worlds.samplers import (
    TRANSFORMERS,
    Sampler,
    bfloat16,
    chain,
    lost_mass,
    min_p,
    noise,
    parse_sampler,
    temperature,
    top_k,
    top_p,
)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: temperature(0), r"temperature = 0 must be > 0, .*: top_k=1 is its limit 0"),
        (lambda: temperature(-1.5), r"temperature = -1.5 must be > 0"),
        (lambda: temperature(math.nan), r"temperature = nan must be a finite number"),
        (lambda: temperature(math.inf), r"temperature = inf must be a finite number"),
        (lambda: temperature("0.7"), r"temperature = '0.7' must be a finite number"),
        (lambda: temperature(True), r"temperature = True must be a finite number"),
        (lambda: top_p(0), r"top_p = 0 must be > 0 and <= 1, .*: top_p=1 keeps every token, top_k=1 the"),
        (lambda: top_p(1.0001), r"top_p = 1.0001 must be > 0 and <= 1"),
        (lambda: top_p(90), r"top_p = 90 must be > 0 and <= 1"),
        (lambda: top_p(None), r"top_p = None must be a finite number"),
        (lambda: min_p(-0.1), r"min_p = -0.1 must be >= 0 and <= 1, .*min_p=0 keeps every token"),
        (lambda: min_p(2), r"min_p = 2 must be >= 0 and <= 1"),
        (lambda: top_k(2.0), r"top_k = 2.0 must be a whole number >= 1.*0 or -1 keeps every one"),
        (lambda: top_k(-2), r"top_k = -2 must be >= 1, or 0 or -1, which keep every token"),
        (lambda: noise(-1e-9), r"noise = -1e-09 must be >= 0"),
        (lambda: noise(0.1, -1), r"seed = -1 must be >= 0: the name of the noise"),
        (lambda: noise(0.1, 0.5), r"seed = 0.5 must be a whole number >= 0"),
        (
            lambda: chain(),
            r"chain\(\) has no sampler; give some of noise, bfloat16, temperature, min_p,",
        ),
        (lambda: chain(top_p(0.9), top_p(0.8)), r"chain: top_p is given twice; give each of noise"),
        (
            lambda: chain(chain(top_p(0.9))),
            r"chain: Chain\(samplers=.*has no place in the order; give some",
        ),
        (lambda: chain(top_p), r"chain: <class .*top_p'> has no place in the order"),
    ],
)
@pytest.mark.usefixtures("unchecked_signatures")
def test_a_number_out_of_range_is_refused_with_the_limit_and_the_way_out(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    ("theta", "says"),
    [
        ([0.0, 1.0], r"theta has shape \(2,\); logits are a table \(S, V\)"),
        (torch.zeros(2, 0), r"theta has shape \(2, 0\); logits are a table"),
        ([[0.0, math.nan]], r"theta\[0, 1\] = nan: logits must be finite, or -inf to mask a token"),
        ([[0.0, math.inf]], r"theta\[0, 1\] = inf"),
        ([[0.0, 1.0], [-math.inf, -math.inf]], r"theta\[1\] is -inf for every token"),
        ("top_p", r"theta = 'top_p' is no table of numbers"),
        (torch.zeros(1, 2, dtype=torch.bool), r"bools are no logits"),
    ],
)
@pytest.mark.usefixtures("unchecked_signatures")
def test_what_is_no_table_of_logits_is_refused(theta, says):
    with pytest.raises(ValueError, match=says):
        top_p(0.9)(theta)
    with pytest.raises(ValueError, match=says):
        lost_mass(theta, [[0.0, 0.0]])


def test_two_worlds_have_no_lost_mass():
    with pytest.raises(ValueError, match=r"theta has shape \(1, 2\), theta_sampler \(1, 3\): both are"):
        lost_mass([[0.0, 0.0]], [[0.0, 0.0, 0.0]])


def test_a_result_that_is_no_policy_is_refused():
    with pytest.raises(ValueError, match=r"theta\[0, 1\] = 1e\+39 is beyond the largest bfloat16, 3.39e\+38"):
        bfloat16()([[0.0, 1e39]])
    with pytest.raises(ValueError, match=r"theta_sampler = noise=1e\+308,seed=0\(theta\)\[\d+, \d+\] = inf"):
        noise(1e308)(torch.zeros(50, 50))
    with pytest.raises(TypeError, match="Sampler defines no formula"):
        Sampler()([[0.0, 0.0]])


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("top_p=0.9", top_p(0.9)),
        (" top_p = .9 ", top_p(0.9)),
        ("temperature=7e-1", temperature(0.7)),
        ("top_k=-1", top_k(-1)),
        ("bfloat16", bfloat16()),
        ("noise=0.01", noise(0.01, 0)),
        ("seed=3,noise=0.01", noise(0.01, 3)),
        ("top_p=0.9,temperature=0.7", chain(temperature(0.7), top_p(0.9))),
        ("top_k=4,noise=0.5,bfloat16,min_p=0.1", chain(noise(0.5), bfloat16(), min_p(0.1), top_k(4))),
    ],
)
def test_a_sampler_is_read_as_it_is_written(written, means):
    assert parse_sampler(written) == means
    assert parse_sampler(str(means)) == means
    assert str(parse_sampler(str(means))) == str(means)


def test_a_chain_is_written_in_the_order_in_which_it_is_applied():
    text = "min_p=0.1,top_p=0.9,top_k=3,temperature=0.7"
    assert str(parse_sampler(text)) == "temperature=0.7,min_p=0.1,top_k=3,top_p=0.9"
    assert str(parse_sampler(text, TRANSFORMERS)) == "temperature=0.7,top_k=3,top_p=0.9,min_p=0.1"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (
            "topp=0.9",
            r"sampler = 'topp=0.9': unknown name 'topp'; write name=value,... as in top_p=0.9,temperature=0.7"
            r" \(noise, seed, bfloat16, temperature, min_p, top_k, top_p\)",
        ),
        ("", r"sampler = '': unknown name ''"),
        ("top_p=0.9,", r"unknown name ''"),
        ("top_p=0.9,top_p=0.8", r"top_p is given twice; keep one of them"),
        ("bfloat16,bfloat16", r"bfloat16 is given twice; keep one of them"),
        ("top_p", r"top_p needs a value; write name=value"),
        ("bfloat16=1", r"bfloat16 takes no value; write name=value"),
        ("top_p=", r"top_p = '' must be a finite number"),
        ("top_p=many", r"top_p = 'many' must be a finite number"),
        ("top_p=nan", r"top_p = nan must be a finite number"),
        ("top_k=2.5", r"top_k = 2.5 must be a whole number"),
        ("top_p=0,9", r"unknown name '9'"),
        ("seed=3", r"seed is that of noise=..., which is missing; leave it out"),
        ("temperature=0", r"temperature = 0 must be > 0"),
    ],
)
@pytest.mark.usefixtures("unchecked_signatures")
def test_what_no_sampler_is_written_like_is_refused(written, says):
    with pytest.raises(ValueError, match=says):
        parse_sampler(written)
