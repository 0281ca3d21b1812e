"""An update reduced to one of its rows: the others through their rewards and lengths."""
