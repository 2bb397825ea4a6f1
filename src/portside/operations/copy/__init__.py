"""Copy: move a registry to other stores while it runs."""
