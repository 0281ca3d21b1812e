"""Random numbers without a state: u is a hash of (seed, replicate, outer step, response, token).

    key(seed) -> child(key, replicate) -> child(., step) -> child(., response) -> child(., token) -> u

Whatever the number of threads, the batching of replicates or an interruption, a response is drawn with the
same numbers; estimators that are run with the same seed see the same responses as long as their policies
agree. `child` is plain integer arithmetic on 64 bits: compiled for the CPU, and applied to int64 tensors on
any device, it gives the same bits. Source: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014 (SplitMix64, with the mixing constants of D. Stafford's variant 13).
"""

import hashlib
import json
import operator

from ticgrpo_theory.worlds.compiling import kernel

GAMMA = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - 2**64
MULTIPLIER_2 = 0x94D049BB133111EB - 2**64
LOW_37, LOW_34, LOW_33, LOW_53 = (2**bits - 1 for bits in (37, 34, 33, 53))

UNIT = 2.0**-53
"""u = UNIT * fraction_bits(key): multiples of 2^-53 in [0, 1)."""


def key(seed: int, name: str) -> int:
    """A signed 64-bit key from sha256(seed, name)."""
    text = json.dumps([operator.index(seed), name]).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)


def child(parent, index):
    """Output number `index` of SplitMix64 started at `parent`; index -1, -2, ... are further outputs.

    Of int64 tensors both must be tensors: a Python integer would not wrap at 64 bits.
    """
    z = parent + (index + 1) * GAMMA
    # int64 shifts copy the sign: what they bring in is masked away.
    z = (z ^ ((z >> 30) & LOW_34)) * MULTIPLIER_1
    z = (z ^ ((z >> 27) & LOW_37)) * MULTIPLIER_2
    return z ^ ((z >> 31) & LOW_33)


def fraction_bits(bits):
    """The upper 53 bits, an integer that float64 holds exactly."""
    return (bits >> 11) & LOW_53


child_key = kernel(child)
upper_bits = kernel(fraction_bits)


@kernel
def uniform(response_key, t):
    """u in [0, 1) of token t."""
    return UNIT * upper_bits(child_key(response_key, t))
