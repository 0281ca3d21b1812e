"""What arXiv:2508.02833 v2 says of its runs, beside what the logs of these runs show.

Each entry computes its number from the runs that it is given; an entry whose runs are absent is left out and
named. Statements are paraphrased. Nothing here says that a method is better or worse than another.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from ticgrpo_theory.training_logs.log_ratio import log_ratio
from ticgrpo_theory.training_logs.published import MODEL_IN_THE_PAPER, RELEASED_CAP, RELEASED_RATE
from ticgrpo_theory.training_logs.runs import Logs, Run, numbers, updates_per_rollout

ON_POLICY = "only_old_policy"
RATIO = "seq_grpo"
DUAL = "seq_clip"

CONTRADICTS = "contradicts"
AGREES = "agrees"

ERRORS = 5
"""Standard errors by which a sampled number may miss what a statement needs."""


@dataclass(frozen=True)
class Statement:
    """The statement needs a number from `low` to `high`; the logs have `value`."""

    name: str
    says: str
    place: str
    quantity: str
    low: float
    high: float
    value: float
    run: str
    remark: str = ""

    @property
    def judgement(self) -> str:
        return AGREES if self.low <= self.value <= self.high else CONTRADICTS


def needs(low: float, high: float) -> str:
    """The range in words."""
    if high == math.inf:
        return f"at least {low:.4g}"
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def statements(logs: Logs) -> tuple[list[Statement], list[str]]:
    """Every entry whose runs are there, and a sentence for each of the others."""
    made: list[Statement] = []
    absent: list[str] = []
    names = {run.name for run in logs.runs}
    for entry, needed in ENTRIES:
        missing = sorted(set(needed) - names)
        if missing:
            absent.append(f"{entry.__name__} is left out: there is no run {', '.join(missing)}")
            continue
        try:
            made.extend(entry(*(logs.run(name) for name in needed)))
        except ValueError as error:
            absent.append(f"{entry.__name__} is left out: {error}")
    return made, absent


def stale_gradients(run: Run) -> list[Statement]:
    """With one update per rollout theta is theta_old, and importance weights are 1 in any case."""
    updates = updates_per_rollout(run.settings)
    return [
        Statement(
            "stale gradients",
            "several steps are made with the gradient at a fixed old policy",
            "Abstract, Figure 1",
            "updates per rollout",
            2.0,
            math.inf,
            float(updates),
            run.name,
            remark="on-policy: importance weights are 1 in any case" if updates == 1 else "",
        )
    ]


def reuse(run: Run) -> list[Statement]:
    (epochs,) = numbers(run.settings, "ppo_epochs")
    updates = updates_per_rollout(run.settings)
    return [
        Statement(
            "reuse",
            "each response is used up to 4 times",
            "experimental setting",
            "uses of a response",
            2.0,
            4.0,
            float(epochs),
            run.name,
            remark=f"{updates:g} updates per rollout in {epochs} passes over its responses",
        )
    ]


def model(run: Run) -> list[Statement]:
    path = run.settings.get("model")
    size = re.search(r"([\d.]+)B", str(path))
    said = re.search(r"([\d.]+)b", MODEL_IN_THE_PAPER[0])
    if size is None or said is None:
        raise ValueError(f"model = {path!r} of run {run.name} names no size such as 1.7B; give its full name")
    return [
        Statement(
            "model",
            f"the model is {MODEL_IN_THE_PAPER[0]}",
            "experimental setting",
            "parameters [10^9]",
            float(said.group(1)),
            float(said.group(1)),
            float(size.group(1)),
            run.name,
            remark=str(path),
        )
    ]


AIME = 30
"""Problems of one year of AIME."""


def evaluation(run: Run) -> list[Statement]:
    """The least n that makes every validation score a multiple of 1/n is the number of problems."""
    scores = run.metric("validation")
    fits = (n for n in range(1, 5001) if ((scores * n - (scores * n).round()).abs() < 1e-6 * n).all())
    return [
        Statement(
            "evaluation",
            "evaluated on AIME",
            "experimental setting",
            "problems of the validation set",
            float(AIME),
            float(AIME),
            float(next(fits, math.nan)),
            run.name,
            remark="; ".join(
                ["by the denominators of its scores", *filter(None, [run.settings.get("val_files", "")])]
            ),
        )
    ]


def dynamic_sampling(*runs: Run) -> list[Statement]:
    """Where every group has a right and a wrong answer, the mean of 0/1 rewards is at least 1/G."""
    made = []
    for run in runs:
        (G,) = numbers(runs[0].settings, "rollout_n")
        reward = run.metric("reward")
        below = int((reward < 1 / G).sum())
        made.append(
            Statement(
                f"dynamic sampling ({run.name})",
                "DAPO, after which the runs are named, draws until every group is mixed",
                "arXiv:2503.14476 v2, dynamic sampling",
                "least mean reward of a step",
                1 / G,
                math.inf,
                float(reward.min()),
                run.name,
                f"{below} of {len(reward)} steps lie below 1/G = 1/{G}, which mixed groups cannot",
            )
        )
    return made


def released_clip(run: Run) -> list[Statement]:
    (high,) = numbers(run.settings, "clip_ratio_high")
    length = float(run.metric("length").mean())
    allowed = math.exp(RELEASED_RATE * math.sqrt(length))
    return [
        Statement(
            "clip, A >= 0",
            "w' is capped at 1 + eps_high for either sign of A",
            "Eq. 9",
            "cap of the published loss at the mean logged length",
            0.0,
            1 + high,
            allowed,
            run.name,
            remark=f"exp({RELEASED_RATE} sqrt |s|) at |s| = {length:.0f}; {RELEASED_CAP:g} where A < 0",
        )
    ]


def dual_clip(run: Run) -> list[Statement]:
    share = run.metric("dual_clip_fraction")
    return [
        Statement(
            "clip, A < 0",
            "w' is capped at 1 + eps_high for either sign of A",
            "Eq. 9",
            f"share with A < 0 that only the dual clip at {RELEASED_CAP:g} stops",
            0.0,
            0.0,
            float(share.mean()),
            run.name,
            remark=f"up to {share.max():.3f} in a step; Eq. 9 would have stopped these at 1.28",
        )
    ]


def ratio(run: Run) -> list[Statement]:
    """Five standard errors; that of a mean of w' is sqrt((e^{sd^2} - 1) / responses), w' log-normal."""
    found = log_ratio(run)
    batch, G = numbers(run.settings, "train_batch_size", "rollout_n")
    of_mean = math.sqrt(math.expm1(found.sd**2) / (batch * G))

    def near(name: str, quantity: str, centre: float, error: float, value: float, remark: str) -> Statement:
        says, place = "w' is the ratio of two policies, which corrects one to the other", "Sec. 4"
        low, high = centre - ERRORS * error, centre + ERRORS * error
        return Statement(name, says, place, quantity, low, high, value, run.name, remark)

    return [
        near(
            "mean of log w'",
            "mean of log w' [nat]",
            found.mean_if_ratio,
            found.mean_error,
            found.mean,
            f"-sd^2/2 at the logged sd {found.sd:.2f}; s.e. of the mean {found.mean_error:.3f}",
        ),
        near(
            "mean of w'",
            "least over steps of the mean of w'",
            1.0,
            of_mean,
            found.ratio_mean_least,
            f"median over steps {found.ratio_mean_median:.2f}; centred noise of that sd gives "
            f"{found.ratio_mean_if_noise:.2f}",
        ),
        near(
            "variance of log w'",
            "share of the variance that comes with the logged KL",
            1.0,
            found.explained_error,
            found.explained,
            f"s.e. {found.explained_error:.3f}; the rest: noise of {found.token_sd:.3f} a token",
        ),
    ]


def whole_rewards(*runs: Run) -> list[Statement]:
    """Sums of 0/1 rewards are whole; DAPO's penalty is linear in the length and makes them fractions."""
    batch, G = numbers(runs[0].settings, "train_batch_size", "rollout_n")
    sums = pd.concat([run.metric("reward") for run in runs]) * batch * G
    whole = (sums - sums.round()).abs() < 1e-3
    return [
        Statement(
            "overlong shaping",
            "DAPO, after which the runs are named, shapes the rewards of long responses",
            "arXiv:2503.14476 v2, overlong reward shaping",
            "steps whose rewards add up to a fraction",
            1.0,
            math.inf,
            float((~whole).sum()),
            ", ".join(run.name for run in runs),
            f"{int(whole.sum())} of {len(whole)} sums over {batch * G} responses are whole numbers",
        )
    ]


ENTRIES: tuple[tuple[Callable[..., list[Statement]], tuple[str, ...]], ...] = (
    (stale_gradients, (ON_POLICY,)),
    (reuse, (RATIO,)),
    (model, (ON_POLICY,)),
    (evaluation, (ON_POLICY,)),
    (dynamic_sampling, (ON_POLICY, RATIO, DUAL)),
    (whole_rewards, (ON_POLICY, RATIO, DUAL)),
    (released_clip, (RATIO,)),
    (dual_clip, (DUAL,)),
    (ratio, (RATIO,)),
)
