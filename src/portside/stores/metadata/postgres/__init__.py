"""The metadata store on PostgreSQL, for registries of more than one machine."""
