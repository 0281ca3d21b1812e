"""KL divergences and the penalised objective."""
