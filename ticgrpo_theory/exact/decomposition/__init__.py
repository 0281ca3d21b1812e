"""The terms of Eq. 7 and Eq. 11 of arXiv:2508.02833 v2, as printed and as corrected."""
