"""Sources: where a repair fetches what a registry has lost."""
