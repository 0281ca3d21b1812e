"""The claims of arXiv:2508.02833 v2 in the order of its sections; ../table.py lists them all."""
