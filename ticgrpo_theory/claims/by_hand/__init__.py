"""The numbers behind the claims from their definitions, in fractions, with every step printed.

Python's own `fractions` and nothing of the two engines: what is rational stays a fraction; roots,
exponentials and logarithms are intervals between two fractions. A reader follows it with pencil and paper.
"""
