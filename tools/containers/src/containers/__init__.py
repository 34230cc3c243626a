"""Taskwire in containers: images, stand-ins for public ones, and a stack of them for tests."""
