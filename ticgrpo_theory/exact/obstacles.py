"""Which method is exact for which estimator: '' where it is, else the reason why not, in words."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import Clip, before_pooling, bounds_by_sign, has_table
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.losses import Objective, from_loss
from ticgrpo_theory.estimators.penalties import kl_exact, kl_loss, kl_reward
from ticgrpo_theory.estimators.scales import kept
from ticgrpo_theory.estimators.shapes import Shape, is_own_token
from ticgrpo_theory.exact.dynamic.measures import correction_obstacle
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.worlds.graph import MAX_PATHS, Graph

MAX_CHECKED = 2**14
"""Largest group size at which a claim about single responses is checked: some 50 groups of them."""


def lengths_of(graph: Graph) -> NDArray[np.int64]:
    """The distinct lengths of the responses of a graph."""
    return np.array([graph.horizon]) if graph.final_start == 0 else np.unique(graph.length)


def is_unclipped(clip: Clip, graph: Graph) -> bool:
    """Whether no ratio is ever switched off or held."""
    return has_table(clip) and clip.table(lengths_of(graph)).is_open


def gate_ignores_sign(clip: Clip, graph: Graph) -> bool:
    """Whether a response is weighted alike for either sign of A."""
    if isinstance(clip, Shape):
        return False
    return bounds_by_sign(clip, torch.from_numpy(lengths_of(graph))).ignore_sign


def reduction_obstacle(problem: PromptProblem) -> str:
    """Why a group does not reduce to one response, or ''.

    It does where every part declares what it reads; where a part's author outside this package claims so, and
    where problem.options.by_name, the claim is checked on groups of the problem.
    """
    estimator = problem.estimator
    if isinstance(estimator, Objective):
        return "a callable objective may couple the responses of a group in any way"
    if isinstance(estimator, Estimator) and isinstance(estimator.scale, kept):
        return "its scale counts what the correction keeps, which rewards and lengths of a group do not say"
    if isinstance(estimator.penalty, kl_reward):
        return "kl_reward changes the rewards before the group statistics are taken"
    if isinstance(estimator, Estimator) and estimator.reads_update:
        return "its parts read the whole update, of which a group does not know the others"
    if type(estimator) not in (Estimator, from_loss):
        return f"the class {type(estimator).__name__} declares nothing of what it reads"
    properties = estimator.properties
    if properties.known:
        return ""
    if not properties.advantage_known:
        why = problem.advantage_obstacle
        if why:
            return why
    if not properties.undeclared and not properties.claimed:
        return ""
    if properties.couples and properties.claimed and not properties.undeclared:
        return "its parts declare that they couple the responses of a group"
    if properties.undeclared and not problem.options.by_name:
        return f"{properties.why_unknown()}, so that it may couple the responses of a group"
    if problem.group_size != math.inf and problem.group_size > MAX_CHECKED:
        return (
            f"that its weights are those of single responses would be checked on groups of "
            f"{problem.group_size:,} responses, more than MAX_CHECKED = {MAX_CHECKED:,}"
        )
    return problem.one_response.why


def dynamic_obstacle(problem: PromptProblem) -> str:
    """Why dynamic programming over the layered graph is not exact, or ''."""
    estimator = problem.estimator
    if not isinstance(estimator, Estimator):
        return "a callable has no declared ratio and clip"
    obstacle = reduction_obstacle(problem)
    if obstacle:
        return obstacle
    if isinstance(estimator.penalty, kl_loss | kl_exact):
        return "its penalty is summed token by token over all responses"
    if isinstance(estimator.clip, Shape) and estimator.clip.sees_position:
        return "its clip depends on the place of a token in its response"
    shape, before = is_own_token(estimator.clip), type(estimator.clip).weight is before_pooling.weight
    if not (has_table(estimator.clip) or before or shape):
        return "its clip turns ratios into weights by a rule of its own"
    why = correction_obstacle(estimator)
    if why:
        return why
    graph = problem.mdp.graph
    if not estimator.properties.known and not estimator.properties.advantage_known:
        if estimator.properties.undeclared or estimator.properties.claimed:
            return "parts that are not of the catalogue are evaluated response by response"
    if estimator.ratio in (ratios.prefix, ratios.trajectory) and is_unclipped(estimator.clip, graph):
        return ""
    if estimator.ratio not in (ratios.none, ratios.token) or not (has_table(estimator.clip) or shape):
        return "its clip depends on more than one token"
    if not shape and estimator.clip.table(lengths_of(graph)).depends_on_length:
        return "its clip depends on the length of the response, which is not known before the end"
    return ""


def groups_obstacle(problem: PromptProblem) -> str:
    """Why groups cannot be enumerated, or ''."""
    if isinstance(problem.estimator.penalty, kl_exact):
        return "kl_exact is no function of the sampled tokens of a group"
    return listing_obstacle(problem)


def listing_obstacle(problem: PromptProblem) -> str:
    """Why the groups cannot be listed, or ''; the time that they would take where they are many."""
    if problem.group_size == math.inf:
        return "an infinite group cannot be enumerated"
    if problem.mdp.graph.num_paths > MAX_PATHS:
        return (
            f"enumeration would expand {problem.mdp.graph.num_paths:,} responses token by token, more than "
            f"MAX_PATHS = {MAX_PATHS:,}"
        )
    why = problem.groups.obstacle()
    if not why:
        return ""
    groups = problem.groups
    if groups.groups > multisets.MAX_GROUPS or problem.group_size > MAX_CHECKED:
        return f"{why}: lower N or G"
    seconds = groups.seconds(problem.batch)
    return f"{why}, which would take about {seconds:,.0f} s; limit={groups.groups} allows them"
