"""`ticgrpo`: main.py lists the commands, commands/ says what can be typed, answers/ computes and shows it."""
