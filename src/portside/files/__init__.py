"""Files that people write: how they are read, reloaded, and refused."""
