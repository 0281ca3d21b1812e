"""What the authors' released code and published training logs say: a few facts, no data.

Source: github.com/pangleipll/dynamic_sen_clip, commit 3b37d82 (2026-08-04). The repository carries no
licence; none of its files is copied here.
"""

from dataclasses import dataclass

SOURCE = "github.com/pangleipll/dynamic_sen_clip, commit 3b37d82"


@dataclass(frozen=True)
class Run:
    """One logged run, as its printed configuration has it."""

    batch: int
    """Prompts of one rollout."""
    mini_batch: int
    """Prompts of one update."""
    epochs: int
    """Passes over the responses of one rollout."""

    @property
    def updates(self) -> int:
        """Updates between two refreshes of theta_old."""
        return self.epochs * self.batch // self.mini_batch

    @property
    def uses(self) -> int:
        """How often a response takes part in an update."""
        return self.epochs


FIGURE_1 = Run(batch=128, mini_batch=128, epochs=1)
"""The run without importance sampling (`only_old_policy`)."""

FIGURE_2 = Run(batch=128, mini_batch=32, epochs=1)
"""The run with the trajectory ratio (`seq_grpo`)."""

RECORD = f"the printed configuration of the runs ({SOURCE})"

STEPS, PROMPTS = 144, 18_437
"""Rollouts of the runs, and training prompts."""

SEED_NOISE = 0.011
"""Difference late in training between two runs whose settings are all but equal; one seed each."""

LOG_RATIO_MEAN, LOG_RATIO_SD = -0.006, 1.03
"""Mean and standard deviation of log w' of responses in the log of `seq_grpo`."""

MODEL = "Qwen3-1.7B-Base"
MODEL_IN_THE_PAPER = ("qwen3_1.5b-base", "Qwen1.5B-base")

RELEASED_RATE, RELEASED_CAP = 0.01, 3.0
"""The loss `tic-grpo`: w' <= exp(RATE sqrt |s|) where A >= 0, and the dual clip where A < 0."""

DEPARTURES = (
    f"The Figure 1 run used mini-batch = batch = {FIGURE_1.batch} prompts: one update per rollout, "
    "on-policy. Its loss, -A log pi at the current theta, would not be the gradient at theta_old either.",
    f"`ppo_epochs` = {FIGURE_2.epochs} with {FIGURE_2.updates} "
    "disjoint mini-batches: each response is used once.",
    f"The model is {MODEL}; the paper writes {MODEL_IN_THE_PAPER[0]} and {MODEL_IN_THE_PAPER[1]}.",
    f"{PROMPTS:,} training prompts, {STEPS} steps of 128 prompts with 16 responses each, learning rate 1e-6 "
    "constant, "
    "Adam, no KL, response limit 18,000 tokens, reward 0 or 1. Dynamic sampling and overlong shaping were "
    "not active, and no log contains an evaluation on AIME.",
    "The published loss `tic-grpo` bounds w' by exp(0.01 sqrt |s|), which grows with the response, and for "
    "A < 0 PPO's max() undoes that bound, contrary to Eq. 9; only a dual clip at 3 is left there.",
    f"In the log of `seq_grpo` log w' has standard deviation {LOG_RATIO_SD} and mean {LOG_RATIO_MEAN}. "
    "Together with the logged KL, about 99 % of its variance looks like numerical noise between two "
    "evaluations of nearly the same policy.",
    f"One seed each. Runs that are all but identical differ by {SEED_NOISE} late in training, so that gaps "
    "of 0.01 to 0.02 mean nothing; gaps of 0.04 to 0.07 may.",
)
"""Where code and logs depart from the paper."""
