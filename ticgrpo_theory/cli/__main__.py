"""python -m ticgrpo_theory.cli; see main.py."""

import sys

from ticgrpo_theory.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
