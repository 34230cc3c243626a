"""For tests: what a service is told that is a process of its own. `settings_for` is for one in this process."""

import os
import secrets

from chassis.testing import APP_TOKEN, AUDIENCE, HS256_SECRET, ISSUER, PATIENT_ENVIRONMENT


def environment_for(database_url: str, **more: str) -> dict[str, str]:
    """Make the whole environment of a service under test that is a process of its own, patient and without a sidecar.

    Args:
        database_url: The test's database, reached as it says.
        more: Variables of the service itself, or others to override.
    """
    given = PATIENT_ENVIRONMENT | {
        "PATH": os.environ["PATH"],
        "TASKWIRE_ENVIRONMENT": "development",
        "TASKWIRE_PORT": "1",  # whoever starts it finds a free one
        "TASKWIRE_DATABASE_URL": database_url,
        "TASKWIRE_AUTH_ISSUER": ISSUER,
        "TASKWIRE_AUTH_AUDIENCE": AUDIENCE,
        "TASKWIRE_AUTH_HS256_SECRET": HS256_SECRET,
        "DAPR_API_TOKEN": secrets.token_urlsafe(24),
        "APP_API_TOKEN": APP_TOKEN,
    }
    return given | more
