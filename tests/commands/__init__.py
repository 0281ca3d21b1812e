"""`ticgrpo` as a user types it."""
