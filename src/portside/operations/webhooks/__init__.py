"""Webhooks: what receivers are sent, and how they know who sent it."""
