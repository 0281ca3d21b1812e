"""What users hand over: their numbers, checked, and where their own functions failed."""
