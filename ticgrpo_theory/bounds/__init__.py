"""Constants of an instance, the convergence theorems with them, and certificates of single runs."""

from ticgrpo_theory.bounds.all_groups import check_c2_all_groups as check_c2_all_groups
from ticgrpo_theory.bounds.assumptions import assumptions as assumptions
from ticgrpo_theory.bounds.best_return import optimum as optimum
from ticgrpo_theory.bounds.certificates import Check as Check
from ticgrpo_theory.bounds.certificates import check_c0 as check_c0
from ticgrpo_theory.bounds.certificates import check_c1 as check_c1
from ticgrpo_theory.bounds.constants import AbsentConstant as AbsentConstant
from ticgrpo_theory.bounds.constants import InstanceConstants as InstanceConstants
from ticgrpo_theory.bounds.constants import instance_constants as instance_constants
from ticgrpo_theory.bounds.expected_steps import check_c2 as check_c2
from ticgrpo_theory.bounds.first_steps import first_step as first_step
from ticgrpo_theory.bounds.theorems import theorem_1 as theorem_1
from ticgrpo_theory.bounds.theorems import theorem_2 as theorem_2
