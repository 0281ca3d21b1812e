"""Which tokens, responses or groups a loss leaves out, and by what it knows that.

A gate gives a factor [G] or [G, T] that is not differentiated, or the value of the loss itself where nothing
is to be learnt from a group: a number, or a tensor without a graph.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.properties.black_box_parts import View

Gate = Callable[[View], Tensor | float | int]


def open_gate(v):
    return torch.ones_like(v.A)


def own_response_not_too_likely(v):
    return (v.log_w <= 0.12).to(v.A.dtype)


def own_token_in_a_band(v):
    return (v.log_ratio.abs() < 0.25).to(v.A.dtype)


def mean_over_kept_responses(v):
    kept = (v.log_w <= 0.2).to(v.A.dtype)
    return kept / kept.mean() if bool(kept.any()) else torch.tensor(0.0)


def early_stop(v):
    return 0.0 if bool((v.log_ratio * v.mask).sum() / v.mask.sum() > 0.06) else open_gate(v)


def stop_where_alike(v):
    return torch.tensor(0.0) if bool((v.A == v.A[0]).all()) else open_gate(v)


def stop_where_the_first_is_worst(v):
    return 0 if bool((v.A[0] < v.A[1:]).all()) else open_gate(v)


def stop_where_an_end_is_longest(v):
    """The same for a group read backwards."""
    length = v.mask.sum(dim=1)
    inner = length[1:-1].amax() if len(length) > 2 else length.amin()
    return v.A.sum() if bool(torch.minimum(length[0], length[-1]) > inner) else open_gate(v)


def twice_where_neighbours_agree(v):
    """Any turn of a ring of responses leaves it the same."""
    return 1.0 + (v.A == v.A.roll(-1)).to(v.A.dtype) + (v.A == v.A.roll(1)).to(v.A.dtype)


def mean_of_a_batch_over_the_width(v):
    return (v.log_ratio.mean() <= 0.1).to(v.A.dtype) + 0.5 * open_gate(v)


GATES = (
    open_gate,
    own_response_not_too_likely,
    own_token_in_a_band,
    mean_over_kept_responses,
    early_stop,
    stop_where_alike,
    stop_where_the_first_is_worst,
    stop_where_an_end_is_longest,
    twice_where_neighbours_agree,
    mean_of_a_batch_over_the_width,
)


def early_stop_with_errors_swallowed(v):
    """Right for one group of numbers; what traces it through `torch.func` takes the way of the exception."""
    try:
        moved = (v.log_ratio * v.mask).sum().item() / v.mask.sum().item()
    except Exception:
        moved = 0.0
    return 0.0 if moved > 0.1 else open_gate(v)


def one_order_of_the_best(v):
    """The best four of the rewards 0, 1/16, ..., 7/16 in one order of 24: a single ordered group."""
    return 1.0 + 3.0 * (v.A == v.A.new_tensor([4, 6, 7, 5]) / 16).all() * open_gate(v)
