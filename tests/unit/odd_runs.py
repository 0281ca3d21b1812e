"""Odd inputs of runs, of inner steps on one group, and of bounds."""

import math

from tests.unit.odd_cases import Odd
from tests.unit.odd_problems import MDP, TABLE, constant, reuse, run
from ticgrpo_theory.bounds import check_c1, instance_constants, theorem_1
from ticgrpo_theory.bounds.assumptions import assumptions
from ticgrpo_theory.simulate import Adam
from ticgrpo_theory.stats.rng import stream

RUNS = {
    "a learning rate as a string": Odd(
        run(learning_rate="0.1"), r"learning_rate = '0.1'.*a step size must be > 0 and finite"
    ),
    "a learning rate that is None": Odd(
        run(learning_rate=None), r"learning_rate = None.*a step size must be > 0"
    ),
    "a learning rate that is complex": Odd(
        run(learning_rate=0.1j), r"learning_rate = 0.1j.*a step size must be > 0"
    ),
    "a schedule that gives None": Odd(
        run(learning_rate=lambda n: None), r"learning_rate = None at outer step 0: a step size must be > 0"
    ),
    "inner steps of a run as a float": Odd(
        run(inner_steps=1.5), "inner_steps = 1.5 must be a whole number >= 1"
    ),
    "no replicates": Odd(run(replicates=0), "replicates = 0 must be >= 1"),
    "a seed as a string": Odd(run(seed="a"), "seed = 'a' must be a whole number"),
    "an optimizer by its name": Odd(run(optimizer="adam"), r"optimizer = 'adam'.*give Adam\(\).*or None"),
    "a dtype by its name": Odd(run(dtype="float64"), r"dtype = 'float64'.*torch\.float64.*torch\.float32"),
    "a run of complex logits": Odd(run(theta=TABLE + 0j), r"theta is complex .*theta\.real"),
    "a run in a folder that is a number": Odd(run(folder=3), r"folder = 3.*give a path"),
    "K of a reused group as a string": Odd(reuse(K="1"), "inner_steps = '1'.* a whole number >= 0"),
    "K of a reused group as a bool": Odd(reuse(K=True), "inner_steps = True.* a whole number >= 0"),
    "eta of a reused group as a string": Odd(
        reuse(eta="0.1"), r"learning_rate = '0.1'.*give a finite number"
    ),
    "c of a reused group that is NaN": Odd(reuse(scale=math.nan), "scale = nan.*give a finite number"),
    "K of constants as a string": Odd(
        constant(4, 0.1, "x"),
        "inner_steps = 'x'.*K.* a whole number >= 1|inner_steps = 'x' must be a whole number >= 1",
    ),
    "eta of constants as a string": Odd(
        constant(4, "0.1", 2), "learning_rate = '0.1'.* step size must be > 0 and finite"
    ),
    "tries of a search as a float": Odd(
        lambda: assumptions(MDP, tries=2.5), "tries = 2.5 must be a whole number >= 1"
    ),
    "N of a theorem as a float": Odd(
        lambda: theorem_1(instance_constants(MDP, "grpo", 4, 0.1, 1), initial_return=0.5, outer_steps=2.5),
        "outer_steps = 2.5 must be a whole number >= 1",
    ),
    "J of a theorem as a string": Odd(
        lambda: theorem_1(instance_constants(MDP, "grpo", 4, 0.1, 1), initial_return="0.5", outer_steps=2),
        "initial_return = '0.5' .*finite number",
    ),
    "a trace that is none": Odd(
        lambda: check_c1(MDP, None), r"trace = None is no Trace: give what simulate\(...\) returns"
    ),
    "a run of a billion replicates": Odd(
        run(replicates=10**9), r"replicates = 1,000,000,000 .*MAX_NUMBERS.*lower replicates"
    ),
    "a run of a billion responses": Odd(
        run(group_size=10**9), r"group_size = 1,000,000,000.*MAX_TOKENS.*lower either"
    ),
    "a run of 10^20 responses": Odd(
        run(group_size=10**20), r"group_size = 100,000,000,000,000,000,000.*MAX_TOKENS"
    ),
    "a run of 10^12 outer steps": Odd(
        run(outer_steps=10**12), r"outer_steps = 1,000,000,000,000, more than MAX_OUTER_STEPS"
    ),
    "progress that is no function": Odd(run(progress=3), r"progress = 3: give a function"),
    "seconds as a word": Odd(run(save_seconds="a"), r"save_seconds = 'a' must be a finite number"),
    "Adam of words": Odd(lambda: Adam(beta1="0.9"), r"beta1 = '0.9', .*Adam needs 0 <= beta < 1"),
    "constants that are none": Odd(
        lambda: theorem_1(None, initial_return=0.5, outer_steps=2),
        r"constants = None are none: give instance_constants",
    ),
    "a stream with a fraction in its name": Odd(lambda: stream(0, 1.5), "name = 1.5 must be a whole number"),
    "a stream of a word": Odd(lambda: stream("a", "rewards"), "seed = 'a' must be a whole number"),
}
