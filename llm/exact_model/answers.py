"""What a restricted policy may answer: a prefix tree of real tokens, with a reward for each answer.

    alphabet(tokenizer, "0123456789", 2, reward)             every string of two digits
    grammar(tokenizer, {"red": 1.0, "dark blue": 0.0}, end)  these answers, of unequal length

The policy is the softmax over the logits of the tokens that may follow: a token that leads to no answer has
the logit -inf. With an end token every answer ends with it, except a string over an alphabet that is cut at
the horizon.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from ticgrpo_theory.worlds.graph import MAX_PATHS, Graph
from ticgrpo_theory.worlds.mdp import TokenMDP

Prefix = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers as token numbers of the model; none is the beginning of another, and there are two or more.

    Raises ValueError otherwise, naming the answers.
    """

    reward: Mapping[Prefix, float]
    """Reward of each answer."""
    text: Mapping[int, str]
    """How each token reads."""

    def __post_init__(self) -> None:
        if len(self.reward) < 2:
            raise ValueError(f"{len(self.reward)} answer: a policy needs two or more to choose from")
        for answer, reward in self.reward.items():
            if not answer:
                raise ValueError("an answer has no token: give it text, or an end token")
            if not math.isfinite(reward):
                raise ValueError(f"the reward of {self.read(answer)!r} is {reward}: give a finite number")
            for n in range(1, len(answer)):
                if answer[:n] in self.reward:
                    raise ValueError(
                        f"the answer {self.read(answer[:n])!r} begins {self.read(answer)!r}, and nothing "
                        f" tells that it has ended: give an end token, end=tokenizer.eos_token_id"
                    )

    def read(self, tokens: Prefix) -> str:
        """Tokens as text."""
        return "".join(self.text[token] for token in tokens)

    @cached_property
    def prefixes(self) -> list[Prefix]:
        """What can be continued, breadth first, then in the order of token numbers: one logits row each."""
        found = {answer[:n] for answer in self.reward for n in range(len(answer))}
        return sorted(found, key=lambda prefix: (len(prefix), prefix))

    @cached_property
    def tokens(self) -> list[int]:
        """Every token of an answer, in the order of their numbers."""
        return sorted({token for answer in self.reward for token in answer})

    def world(self, tokens: Sequence[int]) -> TokenMDP:
        """The token MDP over `tokens`, which may hold more than the answers need; row i is prefix i.

        A token that leads to no answer ends the response; its reward is that of some answer, since it is
        never drawn and no new value must enter the statistics of groups.
        """
        V, T = len(tokens), max(map(len, self.reward))
        layers = [[p for p in self.prefixes if len(p) == t] for t in range(T)]
        successor = np.empty((len(self.prefixes), V), dtype=np.int32)
        ended: list[list[tuple[float, int]]] = [[] for _ in range(T)]
        last: list[tuple[float, int]] = []
        dead = next(iter(self.reward.values()))
        row = 0
        for t, layer in enumerate(layers):
            following = {p: n for n, p in enumerate(layers[t + 1])} if t + 1 < T else {}
            blocked = None
            for prefix in layer:
                for a, token in enumerate(tokens):
                    whole = (*prefix, token)
                    if whole in following:
                        successor[row, a] = following[whole]
                    elif whole in self.reward and t + 1 == T:
                        successor[row, a] = len(last)
                        last.append((self.reward[whole], T))
                    elif whole in self.reward:
                        ended[t].append((self.reward[whole], t + 1))
                        successor[row, a] = -len(ended[t])
                    else:
                        if blocked is None:
                            ended[t].append((dead, t + 1))
                            blocked = -len(ended[t])
                        successor[row, a] = blocked
                row += 1
        sizes = [len(of_depth) for of_depth in ended]
        outcomes = [outcome for of_depth in (*ended, last) for outcome in of_depth]
        node_start = np.concatenate([[0], np.cumsum([len(layer) for layer in layers])])
        graph = Graph(
            vocab_size=V,
            horizon=T,
            node_start=node_start,
            row=np.arange(row),
            successor_start=node_start[:-1],
            successor=successor,
            ended_start=np.concatenate([[0], np.cumsum(sizes)])[:-1],
            final_start=sum(sizes),
            reward=np.array([reward for reward, _ in outcomes]),
            length=np.array([length for _, length in outcomes]),
        )
        return TokenMDP(vocab_size=V, horizon=T, num_rows=row, graphs=[graph])

    def allowed(self, tokens: Sequence[int]) -> np.ndarray:
        """Whether each token [S, V] leads from a prefix to an answer."""
        begun = {answer[:n] for answer in self.reward for n in range(1, len(answer) + 1)}
        return np.array([[(*prefix, token) in begun for token in tokens] for prefix in self.prefixes])


def alphabet(
    tokenizer: Any,
    letters: Sequence[str],
    horizon: int,
    reward: Callable[[str], float],
    end: int | None = None,
) -> Answers:
    """Every string of `horizon` letters; with an end token also every shorter one, the empty one too.

    `reward` is called with the text, the end token left out. Raises ValueError for a letter that is several
    tokens, naming them, for two letters of one token, and for more answers than can be listed.
    """
    tokens: dict[int, str] = {}
    for letter in letters:
        ids = tokenizer.encode(letter, add_special_tokens=False)
        if len(ids) != 1:
            parts = tokenizer.convert_ids_to_tokens(ids)
            raise ValueError(
                f"the letter {letter!r} is {len(ids)} tokens ({parts}), one for each letter is needed: "
                f"list whole answers instead, grammar(tokenizer, {{answer: reward, ...}})"
            )
        if ids[0] in tokens or ids[0] == end:
            raise ValueError(
                f"the letter {letter!r} is the token {ids[0]}, which is taken: give each letter once"
            )
        tokens[ids[0]] = letter
    count = len(letters) ** horizon
    if horizon < 1 or count > MAX_PATHS:
        raise ValueError(
            f"horizon = {horizon}: {len(letters)} letters give {count:,} strings; give 1 or more, at most "
            f"MAX_PATHS = {MAX_PATHS:,} strings"
        )
    found: dict[Prefix, float] = {}
    for T in range(horizon + 1) if end is not None else [horizon]:
        for chosen in product(tokens, repeat=T):
            closed = chosen if T == horizon or end is None else (*chosen, end)
            found[closed] = float(reward("".join(tokens[token] for token in chosen)))
    return Answers(found, tokens if end is None else {**tokens, end: ""})


def grammar(tokenizer: Any, answers: Mapping[str, float], end: int | None = None) -> Answers:
    """The listed answers with their rewards; with an end token each ends with it.

    Raises ValueError for answers of the same tokens, and where one is the beginning of another and no end
    token tells them apart.
    """
    found: dict[Prefix, float] = {}
    for answer, reward in answers.items():
        ids = tuple(tokenizer.encode(answer, add_special_tokens=False)) + (() if end is None else (end,))
        if ids in found:
            raise ValueError(f"the answer {answer!r} has the tokens {list(ids)} of another answer: drop one")
        found[ids] = float(reward)
    text = {token: tokenizer.decode([token]) for answer in found for token in answer}
    return Answers(found, text if end is None else {**text, end: ""})
