"""E[g_hat] as token weights by every method, and the paths that mean steps take."""
