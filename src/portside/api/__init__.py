"""The HTTP edge: one module for each noun of the API, over the operations."""
