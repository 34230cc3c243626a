"""`python -m notifier serve|migrate|wait-for-schema`."""

from chassis.service import run_service
from notifier.app import create_app
from notifier.settings import NotifierSettings

if __name__ == "__main__":
    run_service("notifier", NotifierSettings, create_app)
