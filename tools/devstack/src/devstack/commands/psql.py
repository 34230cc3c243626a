"""Ask the database of a service: what the runbook's questions go through on this stack."""

import argparse
import os
import subprocess
from typing import Final

from devstack.console import Console
from devstack.credentials import Credentials
from devstack.failures import ProvisionError
from devstack.layout import HOST, Layout, Ports
from devstack.postgres import SUPERUSER, binaries
from devstack.services import SERVICES
from devstack.state import read_report

_FIX: Final = "Name one: make psql SERVICE=task-api [SQL='SELECT …']"


def psql(layout: Layout, options: argparse.Namespace, _: Console) -> int:
    """Have PostgreSQL carry out one statement, or open a prompt.

    As the superuser, since nobody else sees what other roles wait for, and may end it.
    """
    databases = {service.app_id: service.module for service in SERVICES}
    if options.service not in databases:
        what = f"{options.service!r} is no service" if options.service else "no service was named"
        raise ProvisionError("there is nothing to ask", f"{what}; these are: {', '.join(databases)}", _FIX)
    report, credentials = read_report(layout), Credentials.load(layout.credentials_file)
    if report is None or credentials is None:
        raise ProvisionError("there is no database", f"no stack runs in {layout.home}", "Start it: make up")
    # The password is in its environment, which nobody else can read.
    environment = {
        **os.environ,
        "PGHOST": HOST,
        "PGPORT": str(Ports(report["port_base"]).postgres),
        "PGUSER": SUPERUSER,
        "PGPASSWORD": credentials.postgres_password,
        "PGDATABASE": databases[options.service],
        "PGCONNECT_TIMEOUT": "5",
        "PSQLRC": os.devnull,
    }
    command = [str(binaries() / "psql"), "--pset=pager=off", *(["--command", options.sql] if options.sql else [])]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603  (of who runs the stack)
