"""The verbs: what the registry does, over the interfaces of the stores. No HTTP, no SQL."""
