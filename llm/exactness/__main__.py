"""python -m llm.exactness; see checks.py."""

from llm.exactness.checks import command

if __name__ == "__main__":
    command()
