"""A language model as a token MDP: exact gradients in the weights of a real network."""
