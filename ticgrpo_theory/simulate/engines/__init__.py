"""Who moves the replicates: choose.py takes the fastest engine that can evaluate the estimator."""
