"""One module for each command of `ticgrpo`; cli.py lists them."""
