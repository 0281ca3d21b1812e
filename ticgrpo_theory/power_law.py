"""The public names of stats.power_law, where users have them."""

from ticgrpo_theory.stats.power_law import FEWEST as FEWEST
from ticgrpo_theory.stats.power_law import MISS as MISS
from ticgrpo_theory.stats.power_law import Growth as Growth
from ticgrpo_theory.stats.power_law import PowerLaw as PowerLaw
from ticgrpo_theory.stats.power_law import fit_power_law as fit_power_law
from ticgrpo_theory.stats.power_law import growth as growth
from ticgrpo_theory.stats.rounding import ROUNDING as ZERO  # noqa: F401
