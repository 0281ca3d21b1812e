"""Who draws responses, by one protocol, and one rollout with its rewards."""
