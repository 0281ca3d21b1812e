"""Sums over the statistics of a group: numbers of responses of each reward, or two integers of them."""
