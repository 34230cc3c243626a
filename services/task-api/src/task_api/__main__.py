"""`python -m task_api serve|migrate`."""

from chassis.service import run_service
from task_api.app import create_app
from task_api.settings import TaskApiSettings

if __name__ == "__main__":
    run_service("task_api", TaskApiSettings, create_app)
