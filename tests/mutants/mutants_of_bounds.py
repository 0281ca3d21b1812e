"""Mistakes in the constants of an instance, in the theorems and in the certificates."""

from tests.mutants.mutants import Mutant
from tests.unit.bounds import (
    test_all_groups,
    test_certificates,
    test_constants,
    test_first_steps,
    test_hypotheses,
    test_theorems,
)
from tests.unit.worlds import test_world_digest
from ticgrpo_theory import mdp
from ticgrpo_theory.bounds import (
    all_groups,
    best_return,
    certificates,
    constants,
    drift,
    expected_steps,
    first_gradient,
    first_steps,
    geometry,
    hypotheses,
    theorems,
)
from ticgrpo_theory.simulate import algorithm
from ticgrpo_theory.worlds import graph

TREE = test_constants.check_tree_by_hand
SHARED = test_constants.check_shared_row_by_hand
LENGTHS = test_constants.check_variable_length_by_hand
DRIFT = test_constants.check_drift_without_clip_and_beyond_all_rows
PRINTED = test_theorems.check_printed_right_sides
TERMS = test_theorems.check_terms_by_hand
DISJOINT = test_theorems.check_disjoint_groups
COIN = test_first_steps.check_coin
LARGE = test_first_steps.check_large_groups
RUNS = test_certificates.check_one_run
VARIATE = test_certificates.check_control_variate
MOVES = test_all_groups.check_moves_of_one_row
WORLD = test_hypotheses.check_world_is_compared
REWARDS = test_world_digest.check_digest_of_rewards
WEIGHTS = test_world_digest.check_digest_of_weights
SETTINGS = test_hypotheses.check_settings_are_compared
BATCHES = test_hypotheses.check_batches_are_those_of_the_trace
PROMPTS = test_hypotheses.check_prompts_are_those_of_the_trace
ASCENT = test_hypotheses.check_ascent_is_decided_from_the_trace
ARGUMENTS = test_hypotheses.check_arguments_agree_with_the_trace
RECORDS = test_hypotheses.check_records_are_whole
SINGLE = test_hypotheses.check_single_precision
PAIR = test_hypotheses.check_two_replicates
BEST = test_constants.check_best_at_an_end
ONE = test_constants.check_field_that_moves_by_the_distance

BOUNDS = [
    Mutant("whole range of the reward", geometry.Geometry.rho.func, ") / 2 for", ") for", TREE),
    Mutant("shared row visited once", geometry.PromptGeometry.squared_visits.func, "n * n", "n", SHARED),
    Mutant("longest response for the shortest", constants.of_world, "lengths[0]", "lengths[-1]", LENGTHS),
    Mutant("smoothness without visits", constants.of_world, "world.rho * d_max", "world.rho", SHARED),
    Mutant("group of G - 1 in c_min", first_gradient.Part.group_constants, "1 - 1 / G", "1", TREE),
    Mutant(
        "c_min without delta",
        first_gradient.Part.group_constants,
        "self.world.rho + delta",
        "self.world.rho",
        TREE,
    ),
    Mutant(
        "c_max without its scale",
        first_gradient.Part.group_constants,
        "Known(kappa * above)",
        "Known(above)",
        TREE,
    ),
    Mutant("Q without 1/V", first_gradient.Part.Q, "(1 - 1 / self.world.mdp.vocab_size)", "1", TREE),
    Mutant("V of one B_Phi", first_gradient.Part.V, "self.B_Phi**2", "self.B_Phi", TREE),
    Mutant("factor of a token without kappa", drift.Field.rows, "self.kappa * (self", "(self", TREE),
    Mutant("clip ignored where it acts", drift.Field.rows, "square / clip.nearest if", "0.0 if", TREE),
    Mutant("weight 1 does not drift", drift.Field.rows, "self.kappa * self.nu / 2", "0.0", DRIFT),
    Mutant("drift of K steps for K - 1", drift.tau, "(inner_steps - 1)", "inner_steps", TREE),
    Mutant("largest reward for J*", best_return.of_one_row, "turning.real", "[]", PRINTED),
    Mutant("theorem 1 without the gap", theorems.theorem_1, '"gap": run.gap', '"gap": 0.0', PRINTED),
    Mutant("gap counted once", theorems.Run.gap.fget, "2 * difference", "difference", PRINTED),
    Mutant(
        "theorem 1 without drift", theorems.theorem_1, "squared(c.b_bar + run.e)", "squared(c.b_bar)", TERMS
    ),
    Mutant("theorem 2 with 9/8", theorems.theorem_2, "81 / 64", "9 / 8", PRINTED),
    Mutant("theorem 2 without G", theorems.theorem_2, "(groups * c.group_size)", "groups", PRINTED),
    Mutant("drift once in theorem 2", theorems.theorem_2, "4 * c.tau**2", "c.tau**2", TERMS),
    Mutant("condition never checked", theorems.theorem_2, "step <= 1 / 8", "True", PRINTED),
    Mutant("disjoint groups as one", theorems.theorem_2, "run.batches.drawn(c.inner_steps)", "1", DISJOINT),
    Mutant("variance without its group", first_steps.Prompt.counted.func, "A**2 / G**2", "A**2 / G", LARGE),
    Mutant(
        "spread about zero",
        first_steps.Prompt.moments,
        "spread = spread - Phi",
        "spread = spread - 0 * Phi",
        COIN,
    ),
    Mutant("curvature whole, not half", certificates.check_c1, ").L_J / 2 *", ").L_J *", RUNS),
    Mutant(
        "remainder without its gradient",
        certificates.check_c0,
        "J.diff(dim=1) -",
        "J.diff(dim=1) - 0 *",
        RUNS,
    ),
    Mutant("control variate added", expected_steps.check_c2, "plain - variate", "plain + variate", VARIATE),
    Mutant("every group as likely", all_groups.moves, ".prod(dim=-1) * orders", ".prod(dim=-1)", MOVES),
    Mutant("one step for K", all_groups.moves, "range(inner_steps)", "range(1)", MOVES),
    Mutant("J* without p = 0", best_return.of_one_row, "[0.0, 1.0, ", "[1.0, ", BEST),
    Mutant("no drift at Lambda = 1", drift.tau, "Lambda == 0", "Lambda == 1", ONE),
    Mutant("three replicates for a spread", expected_steps.check_c2, "R < 2", "R < 3", PAIR),
    Mutant("any world", hypotheses.check_world, "given != made", "False", WORLD),
    Mutant("C1 in any world", certificates.check_c1, "check_world(mdp, trace)", "pass", WORLD),
    Mutant("C0 in any world", certificates.check_c0, "check_world(mdp, trace)", "pass", WORLD),
    Mutant("digest without rewards", graph.Graph.digest.fget, "self.reward + 0.0, ", "", REWARDS),
    Mutant("digest of signed zeros", graph.Graph.digest.fget, "self.reward + 0.0", "self.reward", REWARDS),
    Mutant("digest without weights", mdp.TokenMDP.digest.fget, "(weight, prompt", "(0.0, prompt", WEIGHTS),
    Mutant("any estimator", hypotheses.check_settings, '"estimator", ', "", SETTINGS),
    Mutant("any G", hypotheses.check_settings, '"group_size", ', "", SETTINGS),
    Mutant("any eta", hypotheses.check_settings, '"learning_rate", ', "", SETTINGS),
    Mutant("any K", hypotheses.check_settings, ', "inner_steps")', ",)", SETTINGS),
    Mutant("eta to the bit", hypotheses.compare, "if rates else", "if False else", SETTINGS),
    Mutant("theorems of any run", theorems.run_of, "check_settings(constants, trace)", "pass", SETTINGS),
    Mutant("C2 of any run", expected_steps.check_c2, "check_settings(c, trace)", "pass", SETTINGS),
    Mutant("C2* of any run", all_groups.check_moves, "check_settings(constants, trace)", "pass", SETTINGS),
    Mutant(
        "batches left to the caller",
        hypotheses.batches_of,
        "return made",
        "return given or Batches.REUSED",
        BATCHES,
    ),
    Mutant(
        "disjoint groups are kept silent",
        algorithm.run_settings,
        "batches=settings.batches",
        "batches=type(settings.batches).REUSED",
        BATCHES,
    ),
    Mutant(
        "one prompt for two", expected_steps.check_c2, "averaged(first, P *", "averaged(first, 1 *", PROMPTS
    ),
    Mutant("Adam for plain ascent", hypotheses.plain_ascent, "made.optimizer is None", "True", ASCENT),
    Mutant(
        "a schedule for one eta", hypotheses.plain_ascent, "made.learning_rate is not None", "True", ASCENT
    ),
    Mutant("theorems of any ascent", theorems.Run.known, "*self.ascent, ", "", ASCENT),
    Mutant(
        "J_1 is overruled", theorems.run_of, "if initial_return is not None and", "if False and", ARGUMENTS
    ),
    Mutant("J* below what was met", theorems.check_best, "if not met <=", "if False and met <=", ARGUMENTS),
    Mutant(
        "records as far as they go", hypotheses.check_whole, "range(N)", "range(len(trace.steps))", RECORDS
    ),
    Mutant("single precision judged", hypotheses.check_double, "is not torch.float64", "is None", SINGLE),
]
