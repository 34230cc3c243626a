"""Keeps the committed contracts true: generated from the code, and never broken within a major version."""
