"""What does this loss estimate? `check_loss(loss)` answers, `assert_loss(loss, requires=...)` insists."""

from ticgrpo_theory.check.card import assert_loss as assert_loss
from ticgrpo_theory.check.card import check_loss as check_loss
from ticgrpo_theory.check.report import Report as Report
from ticgrpo_theory.check.row import Row as Row
