"""The configuration of a run: sections, what they may not say, the estimator that they name."""
