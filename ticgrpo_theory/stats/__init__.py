"""Named random streams, intervals, power laws and weighted fits."""
