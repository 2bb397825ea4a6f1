"""Tokens: signed by this registry's keys, or by those of issuers that it trusts."""
