"""The version of the package, for `ticgrpo --version` and pyproject.toml alike."""

VERSION = "0.1.0"
