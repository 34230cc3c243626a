"""daprd beside a service: its command line and what it is told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from devstack.layout import HOST, REPOSITORY, Ports
from devstack.process import Command
from devstack.services import DEAD_LETTER_BYTES, Service, Tokens, without_dapr

RESOURCES: Final = REPOSITORY / "components"
CONFIGURATION: Final = "configuration.yaml"
HEALTH_PATH: Final = "/v1.0/healthz"
APP_HEALTH_PATH: Final = "/health/ready"
DRAIN_SECONDS: Final = 10
BLOCK_SECONDS: Final = 1
"""After SIGTERM a publisher's sidecar stays open for so long, for the last batch of an app that ends with it."""


def sidecar_command(
    service: Service, daprd: Path, ports: Ports, inherited: Mapping[str, str], tokens: Tokens
) -> Command:
    """The daprd of a service, listening on the loopback address alone, without actors, jobs or control plane."""
    resources = Path(inherited.get("TASKWIRE_COMPONENTS") or RESOURCES)
    options = {
        "app-id": service.app_id,
        "app-port": str(ports.app(service.index)),
        "app-protocol": "http",
        "app-channel-address": HOST,
        "dapr-http-port": str(ports.dapr_http(service.index)),
        "dapr-grpc-port": str(ports.dapr_grpc(service.index)),
        "dapr-internal-grpc-port": str(ports.dapr_internal(service.index)),
        "dapr-listen-addresses": HOST,
        "dapr-internal-grpc-listen-address": HOST,
        "metrics-port": str(ports.dapr_metrics(service.index)),
        "metrics-listen-address": HOST,
        "resources-path": str(resources),
        "config": str(resources / CONFIGURATION),
        "dapr-graceful-shutdown-seconds": str(DRAIN_SECONDS),
        # Or it may take a delivery to an app that is away for a success: docs/decisions/0008-one-delivery-at-a-time.md.
        "app-max-concurrency": "1",
    }
    if not service.consumes:
        # A consumer's would go on delivering, for 30 s when its app is away: docs/graceful-stop.md.
        options["dapr-block-shutdown-duration"] = f"{BLOCK_SECONDS}s"
    argv = [str(daprd), *(part for name, value in options.items() for part in (f"--{name}", value))]
    environment = {
        **without_dapr(inherited),
        **tokens.environment(),
        "TASKWIRE_KAFKA_BROKERS": f"{HOST}:{ports.kafka}",
        # Or it asks the network which address this machine has, and fails where there is none.
        "DAPR_HOST_IP": HOST,
        "OTEL_SERVICE_NAME": service.app_id,
        **({"TASKWIRE_KAFKA_MAX_MESSAGE_BYTES": str(DEAD_LETTER_BYTES)} if service.consumes else {}),
    }
    # No --enable-app-health-check: docs/decisions/0004-the-consumer-gives-up-not-the-sidecar.md.
    return Command([*argv, "--log-as-json"], environment, REPOSITORY)
