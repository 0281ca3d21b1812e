"""One group for every branch: unequal lengths and rewards, ratios inside, above and below every clip."""

from tests.oracles.test_literal import HORIZON, RESPONSES, group_of
from tests.properties.strategies import padded

PROBE = padded(group_of(RESPONSES), HORIZON, extra=1)
"""The group of the printed objectives, one column wider than its longest response, NaN at padding."""
