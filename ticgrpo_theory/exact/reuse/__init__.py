"""K inner steps on one group: every group is followed, and the leading order in eta k / G."""
