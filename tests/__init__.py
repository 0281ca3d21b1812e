"""The tests; `unit` mirrors the packages."""
