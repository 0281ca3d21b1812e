"""Noise floors of constant steps: exact to first order, simulated, and tables of them."""
