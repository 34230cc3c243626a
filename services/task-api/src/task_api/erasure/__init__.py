"""Erasure of accounts: a saga across the three services, of which this one keeps the state."""
