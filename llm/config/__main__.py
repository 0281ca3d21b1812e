"""python -m llm.config; see config.py."""

from llm.config.config import main

if __name__ == "__main__":
    main()
