"""Backup: snapshots of a registry that serves, beside the blobs that they need."""
