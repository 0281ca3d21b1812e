"""A folder for each folder of the packages, a file for each module that decides a number."""
