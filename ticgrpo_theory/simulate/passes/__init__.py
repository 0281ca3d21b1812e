"""Compiled passes of one outer step, and the arrays that they work on."""
