"""Second moments of an estimator: of one response, of two of a group, of whole groups."""
