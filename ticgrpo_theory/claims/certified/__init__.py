"""The same quantities a second time, in ball arithmetic: an enclosure proves what float64 can only suggest.

Logits that are logarithms of small integers make every probability and every token or trajectory ratio a
fraction; only standard deviations and geometric means leave the rationals, and those are balls of 200 bits.
Whole groups are listed, formulas are written from their definitions, and nothing of the float64 engine is
called: this is the one place where a formula is deliberately stated again, so that a mistake would have to be
made twice.

A claim "not equal" or "greater than" is certified only where zero lies outside the ball.
"""
