"""The questions, each with its threads, named as repository#number."""

import torch

from ticgrpo_theory.claims.questions.losses import (
    A,
    dual,
    k2,
    leave_one_out_std,
    masked_all_tokens,
    masked_kept_tokens,
    masked_statistics_of_kept,
    mixed,
    per_response,
    sapo,
)
from ticgrpo_theory.claims.questions.settings import (
    Question,
    drawn_by,
    gradient_of_entropy,
    gradient_of_whole_penalty,
    sixteen,
    start,
    two_prompts,
)
from ticgrpo_theory.estimators import advantages, clipping, gates, ratios, scales
from ticgrpo_theory.estimators.corrections import masked, truncated
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.worlds.samplers import noise, top_p

WHOLE = truncated("sequence", None, None)
"""The ratio of theta_old and the sampler of the whole response, without a bound."""


def of(advantage=None, scale=scales.sequence_sum, ratio=ratios.token, clip=None, **more) -> Estimator:
    """Token ratios of centred rewards without a clip, but for what is given."""
    clip = clip or clipping.unclipped()
    return Estimator(ratio, advantage or advantages.centred(), clip, scale, **more)


def questions() -> list[Question]:
    """All of them; made anew, since worlds and policies are."""
    long, far, trap = start("long-answers"), start("long-answers", eta=4.0), start("length-trap", G=4)
    pairs, values = two_prompts(prompts="each"), start("few-values", G=4)
    nucleus, noisy = drawn_by(top_p(0.7), start("few-values", eta=4.0)), drawn_by(noise(0.3), far)
    coin, reference = start("xor"), {"theta_ref": torch.zeros_like(long.theta)}
    leashed = long._replace(policies=f"{long.policies}, reference uniform", options=reference)
    return [
        Question(
            "trl#3231, trl#6024, open-instruct#1161",
            "gradient accumulation over token means",
            "cosine",
            [
                ("one token mean of the batch", trap, of(scale=scales.batch_token_mean)),
                ("micro-batches of two rows", trap, of(scale=scales.micro_batch_token_mean(2))),
                ("micro-batches of one row", trap, of(scale=scales.micro_batch_token_mean(1))),
                ("mean of responses", trap, of(scale=scales.sequence_mean)),
            ],
        ),
        Question(
            "trl#5375, ms-swift#10117, miles#2796",
            "token mean over the batch or over each prompt",
            "cosine",
            [
                ("the batch", pairs, of(scale=scales.batch_token_mean)),
                ("each prompt", pairs, of(scale=scales.token_mean)),
            ],
        ),
        Question(
            "OpenRLHF#830, OpenRLHF#924",
            "statistics over the rows of the batch or over its tokens",
            "residual",
            [
                ("rows", pairs, of(advantages.batch_standardised(), scales.sequence_sum)),
                ("tokens", pairs, of(advantages.token_whitened(), scales.sequence_sum)),
                ("group mean, deviation of the batch", pairs, of(advantages.group_centred_batch_std())),
            ],
        ),
        Question(
            "tianshou#433",
            "dual clip applied to A > 0 as well",
            "scale",
            [
                ("A < 0 alone", long, lambda b: dual(b, lambda a: a < 0)),
                ("either sign", long, lambda b: dual(b, lambda a: a == a)),
            ],
        ),
        Question(
            "unsloth-zoo#869",
            "SAPO without its advantage",
            "scale",
            [
                ("with", long, lambda b: sapo(b, A(b))),
                ("without", long, lambda b: sapo(b, torch.ones_like(b.logp))),
            ],
        ),
        Question(
            "tinker-cookbook#763",
            "CISPO with one bound or with two",
            "cosine",
            [
                ("one", far, of(clip=clipping.saturating(clipping.upper_only(0.2)))),
                ("two", far, of(clip=clipping.saturating(gates.inside(0.8, 1.2)))),
            ],
        ),
        Question(
            "Video-R1#87, trl#2769",
            "the ratio is always 1",
            "cosine",
            [
                ("on policy", long, of(ratio=ratios.none)),
                ("after a step, ratio 1", far, of(ratio=ratios.none)),
                ("after a step, token ratio", far, of()),
                ("after a step, ratio of the response", far, of(ratio=ratios.trajectory)),
            ],
        ),
        Question(
            "tinker-cookbook#579",
            "does the deviation of a group weigh prompts by difficulty",
            "residual",
            [
                (f"G = {G}", two_prompts(G, prompts="each"), of(advantages.standardised(0.0)))
                for G in (2, 3, 4, 16)
            ],
        ),
        Question(
            "CoursIA#10603",
            "has a group of two any power; 16 responses in groups of",
            "snr",
            [(f"{G}", sixteen(G), of(advantages.standardised())) for G in (2, 4, 8, 16)],
        ),
        Question(
            "NeMo-RL#4158",
            "deviation of the other responses instead of the group's",
            "snr",
            [
                ("of the group", values, of(advantages.standardised())),
                ("of the others", values, leave_one_out_std),
            ],
        ),
        Question(
            "trl#6140, trl#5596",
            "an entropy bonus from sampled log-probabilities",
            "scale",
            [
                ("mean of -logp", coin, lambda b: per_response(-b.logp, b)),
                ("-logp held, times logp", coin, lambda b: per_response(-b.logp.detach() * b.logp, b)),
            ],
            gradient_of_entropy,
        ),
        Question(
            "trl#7068",
            "a penalty masked with the groups of equal rewards",
            "scale",
            [
                ("kept in all groups", leashed, lambda b: k2(b, torch.ones((), dtype=b.logp.dtype))),
                ("masked", leashed, lambda b: k2(b, mixed(b))),
            ],
            gradient_of_whole_penalty,
        ),
        Question(
            "prime-rl#3135, prime-rl#2434, prime-rl#2187",
            "which sign of A a bound reads",
            "cosine",
            [
                ("by the sign of A", far, of(clip=clipping.two_sided(0.2, 0.2))),
                ("from above, either sign", far, of(clip=clipping.upper_only(0.2))),
                ("a band, either sign", far, of(clip=gates.inside(0.8, 1.2))),
            ],
        ),
        Question(
            "trl#6789",
            "token ratio to theta_old, drawn by",
            "cosine",
            [("top-p", nucleus, of()), ("theta_old", start("few-values", eta=4.0), of())],
        ),
        Question(
            "slime#179, AReaL#201",
            "which ratio where the sampler is not theta_old",
            "cosine",
            [
                ("theta / old, the sampler ignored", noisy, of()),
                ("theta / old times old / sampler", noisy, of(correction=truncated("token", None, None))),
                ("ratio 1", noisy, of(ratio=ratios.none)),
                ("of responses, theta / sampler", noisy, of(ratio=ratios.trajectory, correction=WHOLE)),
            ],
        ),
        Question(
            "verl#4510, verl#4769",
            "which tokens count after a rejection",
            "residual",
            [
                ("all tokens", noisy, of(scale=scales.token_mean, correction=masked("token", 0.95, None))),
                (
                    "kept tokens",
                    noisy,
                    of(scale=scales.kept(scales.token_mean), correction=masked("token", 0.95, None)),
                ),
            ],
        ),
        Question(
            "trl#6369, open-instruct#1794",
            "where responses that were cut still count",
            "residual",
            [
                ("nowhere but the baseline", long, masked_kept_tokens),
                ("in the denominator", long, masked_all_tokens),
                ("not in the baseline either", long, masked_statistics_of_kept),
            ],
        ),
    ]
