"""Metadata stores: what is known of the content."""
