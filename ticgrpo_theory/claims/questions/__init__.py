"""Public questions about losses, each with the readings that a number decides."""
