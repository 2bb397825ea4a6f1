"""Tokens: signed with this registry's keys, or with those of trusted issuers."""
