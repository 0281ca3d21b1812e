"""Every claim of arXiv:2508.02833 v2 as a function that decides it, and the table that they make."""
