"""Sums over every response, listed one by one: nothing of the estimator is assumed."""
