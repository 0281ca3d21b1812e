"""The words of arXiv:2508.02833 v2 that each row judges, and what is known of them in v5.

Quoted from v2 (7 August 2025); formulas are written in plain letters. Of v5 (23 March 2026) the title and the
abstract were read, and nothing else.
"""

QUOTES = {
    "E1": "pi_theta(a | s): R^{T x d} -> [0, 1]",
    "E2": "J(theta) = E_{s_T ~ pi_theta}[r(s_T)]",
    "E3": "a KL-penalized objective is often used: J(theta) - beta KL(pi_theta || pi_ref)",
    "E3.sampled": "- beta D_KL(pi_theta(s_j | s_{j-1}) || pi_theta_ref(s_j | s_{j-1}))",
    "E4": "the policy gradient simplifies as: grad J(theta) = E_{s_T ~ pi_theta}[(grad log P_theta(s_T | "
    "s_0)) r(s_T)]",
    "G.statistics": "A_i = (r_i - mu_G) / sigma_G",
    "E5": "where |s_t| denotes the length of the response s_t",
    "E6": "the gradient grad L_GRPO(theta, theta_old, theta_ref) which can be written as",
    "E6.clip": "when A_i >= 0, the importance weight is clipped from above by 1 + eps_high, whereas when A_i "
    "< 0, it is "
    "clipped from below by 1 - eps_low",
    "E6.events": "B+ := {w <= 1 + eps_high, A_i >= 0}, B- := {w >= 1 - eps_low, A_i < 0}",
    "Alg1": "theta <- theta + eta grad^ L",
    "Alg1.kl": "1/|s_T| sum_j (min{w A, clip(w) A} - beta D_KL(pi_theta || pi_theta_ref))",
    "E7": "Gradient Term (*)= ... = ... (7)",
    "E7.main": "1_B grad log pi_theta_old(s_t | s_{t-1}) (r_i - mu_bar)",
    "E7.grad": "1_B (1 / pi_theta_old) (grad pi_theta - grad pi_theta_old) (r_i - mu_bar)",
    "E7.se1": "(A_i - (r_i - mu_bar) / sigma_bar)",
    "E7.se2": "+ (1/|G|) sum_i (T^(-1) - 1/|s_T|) sum_t 1_B w grad log pi_theta A_i",
    "E7.clip": "- (T^(-1) / sigma_bar) (1/|G|) sum_i sum_t 1_{B^c} w grad log pi_theta (r_i - mu_bar)",
    "E7.unbiased": "grad~ J(theta_old) serves as an unbiased estimator of the true policy gradient grad "
    "J(theta_old)",
    "E7.proof": "= E_{s_T ~ pi_theta_old}[(grad log P_theta(s_T | s_0)) r(s_T)] - 0 = grad J(theta_old)",
    "E8": "T^(-1) := E_{s_T ~ pi_theta_old}[|s_T|^{-1}], sigma_bar := E[sigma_G], mu_bar := E[mu_G]",
    "E7.target": "it estimates the policy gradient at the old policy pi_old, not the current one",
    "E7.vanish": "the remaining three error terms vanish asymptotically as both the number of iterations N "
    "and the group "
    "size |G| tend to infinity",
    "E7.asymptotic": "the Gradient Term in GRPO serves as an asymptotically unbiased estimator of grad "
    "J(theta_old)",
    "E7.dapo": "analyzing this variant only introduces a different sampling error term in the gradient "
    "decomposition",
    "E9": "1/|s_T| sum_{t=1}^T clip_bar(w'(s_T, theta, theta_old), eps_high) A_i",
    "E9.clip": "the importance sampling ratio is truncated from above at 1 + eps_high, regardless of the "
    "sign of the "
    "estimated advantage",
    "E9.variance": "This modification leads to a more effective reduction in the variance of the policy "
    "gradient estimator",
    "E9.noise": "which in turn results in improved empirical performance",
    "E10": "the gradient grad L_TIC-GRPO(theta, theta_old, theta_ref) which can be written as",
    "E11.scale": "Gradient Term (*)= (1/|G|) sum_i (1/|s_T|) sum_t 1_D w' grad log pi_theta A_i",
    "E11.event": "1_{D(s_t, theta, theta_old)} w'(s_T, theta, theta_old)",
    "Alg2": "clip(w'(s_T, theta, theta_old), eps_high) A_i",
    "Alg2.kl": "1/|s_T| sum_j (clip(w', eps_high) A_i - beta D_KL(pi_theta || pi_theta_ref))",
    "E11": "Gradient Term (*)= ... = ... (11)",
    "E11.main": "w'(s_T, theta, theta_old) grad log pi_theta_old(s_t | s_{t-1}) (r_i - mu_bar)",
    "E11.unbiased": "the term grad~ J(theta) is an unbiased estimator of the true gradient grad J(theta)",
    "E11.se1": "(A_i - (r_i - mu_bar) / sigma_bar)",
    "E11.se2": "+ (1/|G|) sum_i (T^(-1) - 1/|s_T|) sum_t 1_D w' grad log pi_theta A_i",
    "E11.clip": "- (T^(-1) / sigma_bar) (1/|G|) sum_i sum_t 1_{D^c} w' grad log pi_theta (r_i - mu_bar)",
    "E11.vanish": "the remaining two error terms can be shown to vanish asymptotically as the number of "
    "iterations tends to "
    "infinity",
    "E11.consistent": "a consistent and asymptotically unbiased estimator of the current policy gradient "
    "grad J(theta)",
    "TIC.unbiased": "yielding an unbiased estimate of the current policy gradient",
    "TIC.reuse": "for k = 1 to K do ... theta <- theta + eta grad^ L",
    "TIC.efficient": "Intuitively, TIC-GRPO should be more sample-efficient than the original GRPO",
    "TIC.further": "then the algorithm's performance could be further improved - both in theory and in "
    "practice",
    "A5.1": "Assumption 5.1 (Lipschitz Continuous Score Function). Let L > 0 be fixed constants.",
    "A5.2": "specifically, assuming the score function is Lipschitz continuous and the reward function is "
    "bounded",
    "A5.3": "the absolute value of the terminal reward is uniformly bounded",
    "C.L": "the score function is Lipschitz continuous in the following sense",
    "C.L0": "the KL divergence estimation function is L_0-smooth in the following sense",
    "C.R": "There exists a constant R > 0 such that",
    "E12": "theta_{n,0} = theta_{n-1,K}, ... (s = 0, 1, ..., K)",
    "E13": "theta_{n,0} = theta_{n-1,K}, ... (s = 0, 1, ..., K)",
    "T5.1": "(1/N) sum_{n=1}^N E[||grad J(theta_{n,0})||^2] = O(eta K) + O(1/|G|)",
    "T5.2": "(1/N) sum_{n=1}^N E[||grad J(theta_{n,0})||^2] = O(eta K) + O(1/|G|)",
    "T5.faster": "TIC-GRPO exhibits a faster convergence rate than standard GRPO (DAPO)",
    "T5.length": "our theoretical prediction of improved convergence rate with respect to the response "
    "length",
    "F1": "does not lead to a significant drop in performance. Especially in the latter stages ... even "
    "produced a slight "
    "performance gain",
    "F1.models": "this simplification results in performance comparable to standard GRPO",
    "F2": "TIC-GRPO achieves faster improvement in reward over the same number of gradient steps",
    "F2.models": "TIC-GRPO achieves faster improvement in reward over the same number of gradient steps",
    "F2.accuracy": "TIC-GRPO significantly outperforms standard GRPO in both accuracy and convergence speed",
    "P.lower": "fails to reduce the variance of the policy gradient estimator effectively even when A_i < 0",
    "P.why": "is typically refreshed by replaced it by current policy pi every 4-10 optimization steps",
    "P.group": "this term becomes negligible in practice as long as each group contains a sufficiently large "
    "number of "
    "sampled responses",
    "P.dapo": "we do not distinguish between the names DAPO and GRPO",
    "P.gspo": "a similar idea of replacing token-level importance sampling in GRPO with a trajectory-level "
    "formulation",
    "P.memory": "while maintaining GRPO's memory efficiency",
    "P.first": "this constitutes the first theoretical convergence analysis for GRPO-style algorithms",
    "P.timeline": "we had already completed the main experiments (those presented in Fig. 2) by July 14",
    "P.slips": "theta in R^{T x d}; theta_{1,0} in R^d; E[grad~ J(theta_old)]; w_{i,j}; grad~ L_GRPO in Eq. "
    "12",
    "L1": "We use a total batch size of 128 and a mini-batch size of 32, resulting in each sample being "
    "reused for four "
    "updates",
    "L2": "allowing each trajectory to be reused up to 4 times",
    "L3": "resulting in a few hundred samples ... All other hyperparameters follow the default DAPO "
    "configuration",
    "L4": "We have uploaded our experimental logs to the following GitHub repository",
    "L5": "We have uploaded our experimental logs to the following GitHub repository",
    "L6": "These results empirically confirm that TIC-GRPO exhibits a faster convergence rate",
    "L7": "with each prompt used exactly once",
}

V2_DATE, V5_DATE = "7 August 2025", "23 March 2026"

UNKNOWN = "unknown: beyond title and abstract v5 was not read"

V5 = {
    "TIC.unbiased": "abstract: `an estimate`; `unbiased` is gone",
    "T5.faster": "abstract: `TIC-GRPO converges faster than GRPO`; the title claims no speed any more",
    "E7.target": "abstract: the same (`at the old policy rather than the current one`)",
    "P.why": "abstract: `the induced bias is negligible in practice`",
    "F1.models": "abstract: the same (`performance comparable to standard GRPO`)",
    "P.first": "abstract: `the first convergence analysis for GRPO-style methods`",
    "F2.accuracy": "abstract: `empirical results across math reasoning and coding tasks`; AIME is not named",
}
"""What the abstract of v5 says in the place of the words of v2; every other row is UNKNOWN."""
