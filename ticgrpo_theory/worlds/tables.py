"""What a world is built from: sizes, rewards, transitions and rows of logits, checked and as tables."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ticgrpo_theory.inputs.numbers import as_number, integer, is_bool, shown
from ticgrpo_theory.inputs.tracebacks import said
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds.limits import check_horizon, check_levels

MAX_RESPONSES = 2**25
"""Largest prefix tree, in responses: its rewards alone take 8 bytes each."""

MAX_ROWS = 2**25
"""Most rows of logits that are numbered by hand."""


def checked_sizes(vocab_size: int, horizon: int, eos: int | None) -> tuple[int, int, int | None]:
    """V, T and the token that ends a response. Raises ValueError for what is not whole or out of range."""
    V = integer("vocab_size", vocab_size, 1, "V counts the tokens")
    T = integer("horizon", horizon, 1, "T counts the tokens of the longest response")
    if V < 1 or T < 1:
        raise ValueError(f"vocab_size = {V}, horizon = {T}: both must be at least 1 (a response has a token)")
    check_horizon(T)
    if eos is None:
        return V, T, None
    end = integer("eos", eos, 0, "it names the token that ends a response; eos=None is a world without one")
    if not 0 <= end < V:
        raise ValueError(
            f"eos = {end} is outside the vocabulary 0..{V - 1}: name one of its tokens, or eos=None"
        )
    return V, T, end


def responses_of_tree(V: int, T: int, eos: int | None) -> int:
    """Responses of a prefix tree. Raises ValueError for too many of them, and for too long ones."""
    check_levels(T)
    fanout = V - (eos is not None)
    # The count itself may have thousands of digits, so it is not computed beyond 64 bits.
    count = MAX_RESPONSES + 1
    if T * max(fanout - 1, 0).bit_length() < 64:
        ended = T if fanout == 1 else (fanout**T - 1) // (fanout - 1)
        count = fanout**T + (ended if eos is not None else 0)
    if count > MAX_RESPONSES:
        raise ValueError(
            f"a prefix tree with V = {V}, T = {T} has {fanout}**{T} responses of full length and more than "
            f"MAX_RESPONSES = {MAX_RESPONSES:,} in all; lower V or T, or describe the reward by an automaton "
            f"(TokenMDP.automaton), whose cost does not grow with the number of responses"
        )
    return count


def called(reward: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> NDArray[np.float64]:
    """reward(*arguments) of every call. Raises ValueError with the arguments where that is no number."""
    return np.array([returned(reward, arguments) for arguments in calls], dtype=np.float64)


def returned(reward: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """One value of a reward function; whatever it does wrong is a ValueError that names its arguments."""
    what = f"reward({', '.join(map(repr, arguments))})"
    try:
        value = reward(*arguments)
    except Exception as error:
        raise ValueError(f"{what} raised {said(error)}: return a number for every response") from error
    number = float(value) if is_bool(value) else as_number(value)
    if number is None:
        raise ValueError(f"{what} = {shown(value)} is no number: return one finite number")
    if not math.isfinite(number):
        raise ValueError(
            f"{what} = {number} is not finite: the reward of every response must be a finite number"
        )
    return number


def rewards(reward: Any, count: int, meaning: str) -> NDArray[np.float64]:
    """Given rewards as [count]. Raises ValueError for another shape and for what is no finite number."""
    values = numbers_of(dense(reward), f"give {count:,} numbers, {meaning}")
    if values.shape != (count,):
        raise ValueError(f"reward has shape {values.shape}; {count:,} numbers are needed, {meaning}")
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"reward[{first}] = {values[first]} is not finite: rewards must be finite numbers")
    return values


def dense(table: Any) -> Any:
    """A tensor as an array, whatever its layout, device, graph or dtype; anything else as it is."""
    if not isinstance(table, Tensor):
        return table
    here = table.detach().to_dense().cpu()
    return (here if here.is_complex() else here.double()).numpy()


def numbers_of(reward: Any, way_out: str) -> NDArray[np.float64]:
    """Rewards as float64, of any shape. Raises ValueError with the first that is no real number."""
    try:
        values = np.asarray(reward)
    except ValueError:  # ragged
        values = np.asarray(reward, dtype=object)
    if values.dtype.kind in "biuf":
        return np.asarray(values, dtype=np.float64)
    entries = values.tolist() if values.ndim == 1 else [reward]
    found = [as_number(entry) for entry in entries]
    for index, number in enumerate(found):
        if number is None:
            where = f"[{index}]" if values.ndim == 1 else ""
            raise ValueError(f"reward{where} = {shown(entries[index])} is no number: {way_out}")
    return np.array(found, dtype=np.float64)


def moves_of(transition: Any, V: int, T: int) -> np.ndarray:
    """transition as [1, Q, V] or [T, Q, V]. Raises ValueError for another shape and states outside 0..Q-1."""
    limit = f"it must be [Q, V] or [T, Q, V] with T = {T}, V = {V}"
    try:
        moves = np.asarray(dense_whole(transition))
    except ValueError:
        raise ValueError(f"transition = {shown(transition)} is ragged; {limit}") from None
    if (
        moves.ndim not in (2, 3)
        or moves.size == 0
        or moves.shape[-1] != V
        or (moves.ndim == 3 and len(moves) != T)
    ):
        raise ValueError(f"transition has shape {moves.shape}; {limit}")
    return moves if moves.ndim == 3 else moves[None]


def dense_whole(table: Any) -> Any:
    """A tensor of whole numbers as an array; anything else as it is."""
    return table.detach().cpu().numpy() if isinstance(table, Tensor) else table


def checked_start(moves: np.ndarray, start: int) -> int:
    """The first state. Raises ValueError where it, or a state that a token leads to, is none of 0..Q-1."""
    Q = moves.shape[-2]
    first = integer("start", start, 0, f"it is one of the states 0..{Q - 1}")
    whole = np.issubdtype(moves.dtype, np.integer)
    if not whole or moves.min() < 0 or moves.max() >= Q or not 0 <= first < Q:
        raise ValueError(f"transition and start = {first} must be integers in 0..{Q - 1}, the {Q} states")
    return first


def rows_of(rows: str | ArrayLike, T: int, Q: int) -> NDArray[np.int64]:
    """Logits row of every (time, state) [T, Q]. Raises ValueError for what numbers no rows."""
    named = {"state": np.tile(np.arange(Q), (T, 1)), "time_state": np.arange(T * Q).reshape(T, Q)}
    choice = f"'state', 'time_state', or integers >= 0 of shape [Q] = ({Q},) or [T, Q] = ({T}, {Q})"
    if isinstance(rows, str):
        if rows not in named:
            raise ValueError(f"rows = {rows!r}: choose 'state', 'time_state', or give integers [Q] or [T, Q]")
        return named[rows]
    try:
        table = np.asarray(dense_whole(rows))
    except ValueError:
        raise ValueError(f"rows = {shown(rows)} is ragged: give {choice}") from None
    if table.dtype.kind not in "biuf":
        raise ValueError(f"rows = {shown(rows)}: give {choice}")
    whole = np.issubdtype(table.dtype, np.integer)
    if table.shape not in ((Q,), (T, Q)) or not whole or table.min() < 0:
        raise ValueError(f"rows has shape {table.shape} and type {table.dtype}; give {choice}")
    if table.max() >= MAX_ROWS:
        place = [int(i) for i in np.unravel_index(int(table.argmax()), table.shape)]
        raise ValueError(
            f"rows{place} = {table.max():,} makes a table of more than MAX_ROWS = {MAX_ROWS:,} rows of "
            f"logits: number the rows 0, 1, ..., at most {T * Q - 1}"
        )
    return np.broadcast_to(table, (T, Q)).astype(np.int64)


def checked_weights(weights: Any, count: int) -> NDArray[np.float64]:
    """Probabilities of prompts. Raises ValueError for anything but `count` positive ones that add to 1."""
    try:
        given = np.asarray(dense(weights))
    except ValueError:
        given = np.empty(())
    q = given.astype(np.float64) if given.dtype.kind in "iuf" else np.empty(0)
    if count == 0 or q.shape != (count,) or not (q > 0).all() or abs(q.sum() - 1) > ROUNDING:
        raise ValueError(
            f"weights = {q.tolist() if q.size else shown(weights)} for {count} prompts: give one positive "
            f"weight for each prompt, adding to 1 (divide by their sum)"
        )
    return q
