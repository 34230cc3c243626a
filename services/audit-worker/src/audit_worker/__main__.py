"""`python -m audit_worker serve|migrate|wait-for-schema|verify`."""

from audit_worker.app import create_app
from audit_worker.settings import AuditWorkerSettings
from audit_worker.trail.verifying import verify
from chassis.service import run_service

if __name__ == "__main__":
    run_service("audit_worker", AuditWorkerSettings, create_app, {"verify": verify})
