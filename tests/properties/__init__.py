"""Strategies, tolerances, and statements about more than one module."""
