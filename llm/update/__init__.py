"""From a group to a gradient step: log-probabilities, micro-batches, the K updates."""
