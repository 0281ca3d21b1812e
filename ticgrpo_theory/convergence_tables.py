"""The public names of floors.grid_tables, where users have them."""

from ticgrpo_theory.floors.grid_tables import MODELS as MODELS
from ticgrpo_theory.floors.grid_tables import SEPARATE as SEPARATE
from ticgrpo_theory.floors.grid_tables import Values as Values
from ticgrpo_theory.floors.grid_tables import coefficient_table as coefficient_table
from ticgrpo_theory.floors.grid_tables import common_slope as common_slope
from ticgrpo_theory.floors.grid_tables import halves as halves
from ticgrpo_theory.floors.grid_tables import lines as lines
from ticgrpo_theory.floors.grid_tables import print_burn_in as print_burn_in
from ticgrpo_theory.floors.grid_tables import regression_tables as regression_tables
from ticgrpo_theory.floors.grid_tables import regressions as regressions
from ticgrpo_theory.floors.grid_tables import series_in as series_in
from ticgrpo_theory.floors.grid_tables import shares as shares
from ticgrpo_theory.floors.grid_tables import slope as slope
from ticgrpo_theory.floors.grid_tables import slope_table as slope_table
from ticgrpo_theory.floors.grid_tables import terms as terms
