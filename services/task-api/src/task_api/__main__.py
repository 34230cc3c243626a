"""`python -m task_api serve|migrate|wait-for-schema|reencrypt`."""

from chassis.service import run_service
from task_api.app import create_app
from task_api.settings import TaskApiSettings
from task_api.users.service import reencrypt

if __name__ == "__main__":
    run_service("task_api", TaskApiSettings, create_app, {"reencrypt": reencrypt})
