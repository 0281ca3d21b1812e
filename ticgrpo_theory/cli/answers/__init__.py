"""What the commands compute and show: one module for each, `answer` and `show`."""
