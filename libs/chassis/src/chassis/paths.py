"""Where things are mounted, in every service."""

from typing import Final

API_PREFIX: Final = "/api/v1"
"""The features."""

INTROSPECTION_PATH: Final = "/internal/api-keys/introspect"
"""Where task-api tells other services what an API key is; no part of the API."""

MEMBERSHIP_PATH: Final = "/internal/engagements/membership"
"""Beside it: where task-api tells them what somebody may do in an engagement."""

SIDECAR_PREFIXES: Final = ("/dapr/", "/events/")
"""What only daprd may call; no part of the API."""
