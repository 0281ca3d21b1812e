"""Logs of training runs: read whole or cut off, runs compared against noise, and what a logged ratio is."""
