"""Where things are mounted, in every service."""

from typing import Final

API_PREFIX: Final = "/api/v1"
"""The features."""

SIDECAR_PREFIXES: Final = ("/dapr/", "/events/")
"""What only daprd may call; no part of the API."""
