"""What engines share: the arrays of one state's replicates, their keys, and the exact records."""

import numpy as np

from ticgrpo_theory.simulate.passes import outer_step
from ticgrpo_theory.simulate.passes.uniforms import child_key, key
from ticgrpo_theory.simulate.passes.workspace import plan_of, replicates_of, workspace
from ticgrpo_theory.simulate.prompt_graphs import Tree
from ticgrpo_theory.simulate.settings import Settings
from ticgrpo_theory.simulate.state import State, values_at_start


class Engine:
    """Moves the replicates of one state in compiled passes; the first one has number `first_replicate`."""

    def __init__(self, settings: Settings, state: State, first_replicate: int) -> None:
        R = len(state.theta)
        self.settings, self.state = settings, state
        nothing = np.empty(0, dtype=np.int64)
        self.tree = settings.tree or Tree(nothing, nothing, nothing, nothing.reshape(0, 0))
        if len(state.values) == 0:
            state.values = values_at_start(settings.graphs, R)
        origin = key(settings.seed, "simulate")
        keys = np.array([child_key(origin, first_replicate + r) for r in range(R)], dtype=np.int64)
        self.plan, self.replicates = plan_of(settings), replicates_of(state, keys)
        self.work = workspace(settings, self.plan, R)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Exact J and ||grad J||^2 of every replicate."""
        R = len(self.state.theta)
        returns, squares = np.empty(R), np.empty(R)
        # On a tree the values that are kept must not depend on how often somebody looks.
        values = self.state.values if self.state.step == 0 else self.state.values.copy()
        outer_step.measure(self.settings.graphs, self.state.theta, values, returns, squares)
        return returns, squares

    def advance(self, last: int) -> np.ndarray:
        """Takes the outer steps up to `last`; ||Delta||^2 of the last one."""
        raise NotImplementedError

    def sync(self) -> None:
        """Compiled passes work on the state itself: there is nothing to copy."""
