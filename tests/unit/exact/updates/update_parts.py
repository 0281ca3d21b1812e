"""Parts that read whole updates, each beside its loops."""

from dataclasses import dataclass
from typing import Any

from tests.oracles import whole_updates as oracle
from ticgrpo_theory.estimators.advantages import (
    batch_standardised,
    centred,
    group_centred_batch_std,
    length_weighted,
    raw,
    standardised,
    token_whitened,
)
from ticgrpo_theory.estimators.filters import drop_equal, overlong
from ticgrpo_theory.estimators.scales import (
    batch_token_mean,
    micro_batch_token_mean,
    sequence_mean,
    sequence_sum,
    token_mean,
)


@dataclass(frozen=True)
class Entry:
    """An estimator of updates, and what it is by its definition."""

    advantage: Any
    scale: Any
    loops: oracle.Update
    filter: Any = None
    listed_only: bool = False
    """Whether it does not reduce to one row."""

    @property
    def drops(self) -> bool:
        return isinstance(self.filter, drop_equal)

    @property
    def again(self) -> str:
        """How groups of equal rewards are drawn again; '' where they are not."""
        return self.filter.mode if self.drops and self.filter.redraws else ""


def raw_rewards(rewards, lengths):
    return rewards


def entry(advantage, loops, scale, factors, filter=None, **more) -> Entry:
    keep = oracle.unequal if isinstance(filter, drop_equal) else oracle.any_group
    mask = filter == overlong("mask")
    return Entry(advantage, scale, oracle.Update(loops, factors, keep, mask), filter, **more)


CENTRED = (centred(), oracle.group_centred)
STANDARD = (standardised(0.25), lambda r, n: oracle.group_standardised(r, n, 0.25))
BATCH = (batch_standardised(0.25, 1), lambda r, n: oracle.batch_standardised(r, n, 0.25, 1))
LENGTHS = (length_weighted(), oracle.length_weighted)
TOKENS = (token_whitened(0.25, 1), lambda r, n: oracle.token_whitened(r, n, 0.25, 1))
SQUARES = (group_centred_batch_std(0.25), lambda r, n: oracle.centred_by_root_mean_square(r, n, 0.25))
SPREAD = (
    group_centred_batch_std(0.25, of="rewards"),
    lambda r, n: oracle.centred_by_batch_deviation(r, n, 0.25),
)
WHOLE = (batch_token_mean, oracle.token_mean_of_update)
GROUPS = (sequence_sum, oracle.mean_of_groups)

PARTS: dict[str, Entry] = {
    "token mean": entry(*STANDARD, *WHOLE),
    "token mean, raw": entry(raw(), raw_rewards, *WHOLE),
    "pairs in order": entry(*STANDARD, micro_batch_token_mean(2), oracle.micro_batches(2, [0, 1, 2, 3])),
    "pairs across": entry(
        *STANDARD, micro_batch_token_mean(2, (0, 2, 1, 3)), oracle.micro_batches(2, [0, 2, 1, 3])
    ),
    "pairs shuffled": entry(
        *STANDARD, micro_batch_token_mean(2, "shuffled"), oracle.shuffled_micro_batches(2)
    ),
    "alone": entry(*STANDARD, micro_batch_token_mean(1), oracle.micro_batches(1, [0, 1, 2, 3])),
    "all": entry(*STANDARD, micro_batch_token_mean(4), oracle.micro_batches(4, [0, 1, 2, 3])),
    "batch": entry(*BATCH, *GROUPS),
    "batch, sequence mean": entry(*BATCH, sequence_mean, oracle.sequence_mean),
    "batch, group tokens": entry(*BATCH, token_mean, oracle.token_mean_per_group),
    "batch, tokens": entry(*BATCH, *WHOLE),
    "batch, pairs": entry(
        *BATCH, micro_batch_token_mean(2), oracle.micro_batches(2, [0, 1, 2, 3]), listed_only=True
    ),
    "whitened": entry(*TOKENS, *GROUPS),
    "whitened, tokens": entry(*TOKENS, *WHOLE),
    "lengths": entry(*LENGTHS, *GROUPS),
    "lengths, tokens": entry(*LENGTHS, *WHOLE),
    "lengths, group tokens": entry(*LENGTHS, token_mean, oracle.token_mean_per_group),
    "squares": entry(*SQUARES, *GROUPS),
    "squares, tokens": entry(*SQUARES, *WHOLE),
    "spread": entry(*SPREAD, *GROUPS),
    "spread, group tokens": entry(*SPREAD, token_mean, oracle.token_mean_per_group),
    "refill": entry(*STANDARD, *GROUPS, drop_equal("refill")),
    "refill, raw": entry(raw(), raw_rewards, *GROUPS, drop_equal("refill")),
    "refill, tokens": entry(*STANDARD, *WHOLE, drop_equal("refill")),
    "refill, raw tokens": entry(raw(), raw_rewards, *WHOLE, drop_equal("refill")),
    "refill, group tokens": entry(*CENTRED, token_mean, oracle.token_mean_per_group, drop_equal("refill")),
    "refill, batch": entry(*BATCH, *GROUPS, drop_equal("refill"), listed_only=True),
    "same prompt": entry(*STANDARD, *GROUPS, drop_equal("same_prompt")),
    "same prompt, tokens": entry(*STANDARD, *WHOLE, drop_equal("same_prompt")),
    "divided by all": entry(*CENTRED, *GROUPS, drop_equal("divide_by_all")),
    "divided by all, raw tokens": entry(raw(), raw_rewards, *WHOLE, drop_equal("divide_by_all")),
    "divided by kept": entry(
        *CENTRED, sequence_sum, oracle.mean_of_kept_groups, drop_equal("divide_by_kept")
    ),
    "divided by kept, tokens": entry(
        *CENTRED, batch_token_mean, oracle.token_mean_of_kept, drop_equal("divide_by_kept")
    ),
    "divided by kept, raw tokens": entry(
        raw(), raw_rewards, batch_token_mean, oracle.token_mean_of_kept, drop_equal("divide_by_kept")
    ),
    "masked": entry(*STANDARD, *GROUPS, overlong("mask")),
    "masked, tokens": entry(*STANDARD, *WHOLE, overlong("mask")),
    "masked, sequence": entry(*STANDARD, sequence_mean, oracle.sequence_mean, overlong("mask")),
    "masked, whitened": entry(*TOKENS, *GROUPS, overlong("mask")),
    "masked, pairs": entry(
        *STANDARD,
        micro_batch_token_mean(2),
        oracle.micro_batches(2, [0, 1, 2, 3]),
        overlong("mask"),
    ),
}
