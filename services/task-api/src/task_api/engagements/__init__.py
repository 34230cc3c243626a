"""Shared spaces: engagements with members of three roles, and tasks that belong to the engagement."""
