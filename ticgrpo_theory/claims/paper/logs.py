"""What the authors' released code and published logs say against the text."""

import torch

from ticgrpo_theory.claims.certified.enclosures import difference
from ticgrpo_theory.claims.claim import Claim, Finding, contradicted, holds, judge, shown, uncheckable
from ticgrpo_theory.claims.paper.tic_targets import after_one_step, bias_of_reuse
from ticgrpo_theory.claims.witnesses import ANSWERS, GRPO, NO_IS, STALE, TIC, axes, norm, size
from ticgrpo_theory.estimators.catalogue import tic_grpo_released
from ticgrpo_theory.training_logs.published import (
    FIGURE_1,
    FIGURE_2,
    LOG_RATIO_MEAN,
    LOG_RATIO_SD,
    MODEL,
    MODEL_IN_THE_PAPER,
    PROMPTS,
    RECORD,
    SEED_NOISE,
    STEPS,
)

RELEASED = tic_grpo_released(delta=0.0)


def stale_gradients() -> Finding:
    """At one update per rollout theta is theta_old, where all these estimators are one."""
    before = ANSWERS.at_old()
    apart = [size(before.expected(NO_IS, 4) - before.expected(other, 4)) for other in (STALE, GRPO)]
    witness = ANSWERS.witness(
        "||E[weight 1, score at theta] - E[weight 1, score at theta_old]||",
        lambda: norm(difference(ANSWERS.enclosed(NO_IS, 4), ANSWERS.enclosed(STALE, 4))),
        size(ANSWERS.expected(NO_IS, 4) - ANSWERS.expected(STALE, 4)),
        NO_IS,
        4,
        f"norm(E() - E('{axes(STALE)}'))",
    )
    return contradicted(
        RECORD,
        "an on-policy policy gradient, which tests nothing about stale gradients",
        f"mini-batch = batch = {FIGURE_1.batch} prompts: {FIGURE_1.updates} update per rollout; there the "
        "held "
        f"gradient, the logged loss and GRPO coincide (up to {shown(max(apart))}); after a drift the logged "
        "loss is "
        f"off the held gradient by {witness.shown}",
        (witness,),
    )


def used_several_times() -> Finding:
    eta = 0.1
    reuse = bias_of_reuse(eta, 2)
    afresh = size(after_one_step(eta, 2, "disjoint"))
    return contradicted(
        RECORD,
        "each response is used once: the case in which reuse adds no bias",
        f"{FIGURE_2.updates} updates on disjoint mini-batches, {FIGURE_2.uses} use of each response; bias "
        f"of the second update in a small world {reuse.shown} with reuse, {shown(afresh)} without",
        (reuse,),
    )


def model_and_data() -> Finding:
    return contradicted(
        RECORD,
        f"the model is {MODEL}, where the paper writes {' and '.join(MODEL_IN_THE_PAPER)}; dynamic sampling "
        "and "
        "overlong shaping, of the default DAPO, are off; no log holds an evaluation on AIME",
        f"{PROMPTS:,} training prompts where Sec. 6 writes a few hundred samples, and Sec. 3 full DAPO-17K",
    )


def used_once() -> Finding:
    drawn = STEPS * FIGURE_2.batch
    return holds(
        drawn <= PROMPTS and FIGURE_2.uses == 1,
        f"{STEPS} steps of {FIGURE_2.batch} prompts are {drawn:,}, of {PROMPTS:,} there are",
        stated=(),
    )


def released_loss() -> Finding:
    length = torch.tensor([3, 18000])
    ends = [
        RELEASED.clip.bounds(length >= 0, length)[1].exp(),
        RELEASED.clip.bounds(length < 0, length)[1].exp(),
    ]
    gap = size(ANSWERS.expected(RELEASED, 4) - ANSWERS.expected(TIC, 4))
    witness = ANSWERS.witness(
        "||E[released loss] - E[Eq. 9]||",
        lambda: norm(difference(ANSWERS.enclosed(RELEASED, 4), ANSWERS.enclosed(TIC, 4))),
        gap,
        RELEASED,
        4,
        f"norm(E() - E('{axes(TIC)}'))",
    )
    return judge(
        witness,
        f"gradients differ by {witness.shown}; w' <= {shown(float(ends[0][0]))} at 3 tokens and "
        f"{shown(float(ends[0][1]))} at 18,000 where A >= 0, w' <= {shown(float(ends[1][0]))} where A < 0, "
        f"against 1.28 for both",
        counter_example="an upper end that grows with the length, and PPO's "
        "max() for A < 0, which leaves only the dual clip",
    )


def logged_ratio() -> Finding:
    """E_old[w'] = 1 whatever the policies; for a log-normal w' that makes the mean -sd^2/2."""
    expected = -(LOG_RATIO_SD**2) / 2
    return uncheckable(
        "takes a language model: test w' at the first mini-batch after a rollout, where it should be 1",
        f"log w' has sd {LOG_RATIO_SD} and mean {LOG_RATIO_MEAN}; a log-normal ratio of mean "
        f"1 needs {expected:.2f}",
    )


def seeds() -> Finding:
    return uncheckable(
        "takes more runs", f"one seed each; runs with all but equal settings differ by {SEED_NOISE}"
    )


CLAIMS = (
    Claim(
        "L1",
        "Figure 1 shows several steps along the gradient at a fixed old policy",
        "Sec. 3, Figure 1, against its log",
        stale_gradients,
        "ticgrpo_theory.estimators.catalogue.stale",
        "test_claims.py::test_the_logged_runs_by_hand",
        "authors_logs.py",
    ),
    Claim(
        "L2",
        "Each response is reused up to 4 times",
        "Sec. 6, against the log",
        used_several_times,
        "ticgrpo_theory.exact.reuse.followed_groups.reuse_bias",
        "test_followed_groups.py::test_a_new_group_for_every_step_leaves_the_trajectory_ratio_unbiased",
        "reuse_bias.py",
    ),
    Claim(
        "L3",
        "Model, data and settings are as described",
        "Sec. 3 and 6, against the log",
        model_and_data,
        "ticgrpo_theory.training_logs.published.Run",
        "test_claims.py::test_the_logged_runs_by_hand",
        "authors_logs.py",
    ),
    Claim(
        "L7",
        "Each prompt is used exactly once",
        "Sec. 3, against the log",
        used_once,
        "ticgrpo_theory.training_logs.published.Run",
        "test_claims.py::test_the_logged_runs_by_hand",
        "authors_logs.py",
    ),
    Claim(
        "L4",
        "The released loss is Eq. 9",
        "released code",
        released_loss,
        "ticgrpo_theory.estimators.catalogue.tic_grpo_released",
        "test_literal.py::test_token_weights_are_the_derivative_of_the_printed_objective",
        "clip_effect.py",
    ),
    Claim(
        "L5",
        "The logged trajectory ratio is that of two policies",
        "log of the Figure 2 run",
        logged_ratio,
        experiment="ratio_noise.py",
    ),
    Claim(
        "L6",
        "The curves of Figures 1 and 2 separate the methods",
        "Figures 1 and 2, against the logs",
        seeds,
        experiment="authors_logs.py",
    ),
)
