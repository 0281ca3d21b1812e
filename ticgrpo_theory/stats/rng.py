"""Named random streams: the only source of randomness besides what a caller passes in."""

import hashlib
import json
import operator

import numpy as np
import torch


def stream(seed: int, *names: str | int) -> torch.Generator:
    """Generator with the state MT19937(SeedSequence(sha256(seed, names))): a stream of its own for each name.

    The same arguments give the same numbers in every process and on every machine, and adding a stream
    changes no other one. All 256 bits of the hash count. `manual_seed` would not do: on the CPU it keeps the
    low 32 bits of its argument, so that two of 10,000 names share their numbers with probability 1 %, two of
    100,000 with 69 %.
    """
    if not names:
        raise ValueError(f"stream({seed}) has no name; say what is drawn, as in stream({seed}, 'rewards')")
    # JSON keeps ("ab", "c") apart from ("a", "bc"), and 1 from "1".
    parts = [x if isinstance(x, str) else whole("name", x, "names are strings or numbers") for x in names]
    number = whole("seed", seed, "the name of the random numbers")
    key = hashlib.sha256(json.dumps([number, *parts]).encode()).digest()
    bits = np.random.MT19937(np.random.SeedSequence(int.from_bytes(key, "big")))
    generator = torch.Generator()
    # get_state() as 64-bit words: the seed, two of counters, the 624 of MT19937, then cached normal draws.
    # The counters of a new generator say that a block is drawn first, which mixes the words.
    state = generator.get_state()
    state.view(torch.int64)[3:627] = torch.from_numpy(bits.state["state"]["key"].astype(np.int64))
    generator.set_state(state)
    return generator


def whole(name: str, value: object, meaning: str) -> int:
    """`value` as an int; ValueError for a bool and for what is no whole number."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} = {value!r:.60} must be a whole number >= 0: {meaning}") from None
