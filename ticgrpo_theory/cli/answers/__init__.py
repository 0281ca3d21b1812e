"""What the commands of `ticgrpo` compute and show: one module for each, `answer` and `show`."""
