"""The second moments of an update whose advantages read all of it, by one row and by pairs of rows."""
