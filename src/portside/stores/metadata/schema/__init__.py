"""The schema: declared once, and written down for each engine in its own dialect."""
