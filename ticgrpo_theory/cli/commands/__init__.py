"""What can be typed: one function for each command. Nothing slow is imported before it is called."""
