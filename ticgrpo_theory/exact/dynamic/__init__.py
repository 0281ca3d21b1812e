"""Forward and backward over the layers of a graph: no response is listed."""
