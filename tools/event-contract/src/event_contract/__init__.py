"""Keeps the committed event contract true: generated from the code, and never broken within a major version."""
