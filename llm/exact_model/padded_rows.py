"""Answers as padded rows through the code of training: no tree, no table.

    grad_phi E_old[w' r] = grad_phi sum_y P_old(y) (P(y) / P_old(y)) r(y)

Only the log-softmax over the tokens that may follow, in the place of the whole vocabulary, is added to it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llm.exact_model.exact_model import ExactModel
from llm.sequences import Sequences
from llm.update.logprobs import Scoring


@dataclass(frozen=True, eq=False, kw_only=True)
class RestrictedScoring(Scoring):
    """log pi of response tokens under the softmax over the tokens that lead to an answer."""

    tokens: tuple[int, ...]
    """The tokens of answers."""
    allowed: Bool[Tensor, "n V"] | None = None
    """Which of them may stand in the place of each response token, row after row; None is all of them."""

    def head_scores(
        self, head: nn.Module, states: Float[Tensor, "m d"], tokens: Int[Tensor, " m"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """log_softmax over the allowed tokens of head(state) / temperature; no entropy."""
        logits = head(states)[:, list(self.tokens)] / self.temperature
        if self.allowed is not None:
            logits = logits.masked_fill(~self.allowed.to(states.device), -torch.inf)
        local = torch.searchsorted(torch.tensor(self.tokens, device=tokens.device), tokens)
        logp = logits.log_softmax(dim=-1).gather(-1, local[:, None]).squeeze(-1)
        return logp, logp.detach()


def every_answer(model: ExactModel) -> tuple[Sequences, Float[Tensor, " N"], RestrictedScoring]:
    """Every answer to the only prompt as a padded row, its reward, and how it is scored.

    Raises ValueError for several prompts.
    """
    if len(model.prompts) != 1:
        raise ValueError(f"{len(model.prompts)} prompts: rows are made for one prompt at a time")
    prompt = model.prompts[0]
    answers, rewards = list(prompt.answers.reward), list(prompt.answers.reward.values())
    place = {prefix: n for n, prefix in enumerate(prompt.answers.prefixes)}
    rows = [place[answer[:t]] for answer in answers for t in range(len(answer))]
    scoring = RestrictedScoring(
        temperature=model.temperature, tokens=tuple(model.tokens), allowed=model.allowed[rows]
    )
    sequences = Sequences.of_lists([list(prompt.tokens)] * len(answers), [list(a) for a in answers], 0)
    return sequences.to(model.device), torch.tensor(rewards, dtype=torch.float64), scoring


def trajectory_gradient(model: ExactModel, logp_old: Float[Tensor, "N T"] | None = None) -> list[Tensor]:
    """grad of sum_y P_old(y) (P / P_old)(y) r(y), in all weights of the network: E[g_hat] of trajectory_is.

    `logp_old` [N, T] are those of the sampler; by default the current ones, without graph. One forward pass
    over all answers. The order is that of `network.parameters()`.
    """
    sequences, rewards, scoring = every_answer(model)
    logp = scoring(model.network, sequences).logp
    old = (logp.detach() if logp_old is None else logp_old).sum(dim=-1)
    ratio = (logp.sum(dim=-1) - old).exp()
    loss = (old.exp() * ratio * rewards.to(logp)).sum()
    parameters = [p for p in model.network.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, parameters))
