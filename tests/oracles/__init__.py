"""Independent definitions in plain Python, and their own tests."""
