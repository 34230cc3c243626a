"""Pods: how they end, what they may, who asks whether they live."""

from collections.abc import Iterator

from tests.deploy.invariants.environments import environment_of
from tests.deploy.invariants.project import SERVICES, routes_of, version
from tests.deploy.objects import Container, Manifests, Metadata, Probe, SecurityContext, Selector, Shape, Workload

CLOSING = 15
"""Seconds for relay, connections and spans after the last request (docs/graceful-stop.md)."""


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def too_little_time_to_end(manifests: Manifests) -> Iterator[str]:
    """The kubelet's SIGKILL comes after whatever app and sidecar do on their own."""
    for one in manifests.servers():
        annotations = one.pod.metadata.annotations
        app = environment_of(manifests, one, one.pod.spec.containers[0])
        drain, grace = float(app["TASKWIRE_DRAIN_DELAY"]), int(app["TASKWIRE_SHUTDOWN_GRACE"])
        block = seconds(annotations.get("dapr.io/block-shutdown-duration", "0s"))
        graceful = seconds(annotations["dapr.io/graceful-shutdown-seconds"])
        given = one.pod.spec.termination_grace_period_seconds
        if given < drain + grace + CLOSING:
            yield f"{one}: {given} s to end, and the app takes up to {drain + grace + CLOSING:.0f}"
        if given < block + graceful:
            yield f"{one}: {given} s to end, and the sidecar takes up to {block + graceful}"
        if drain < 5:
            yield f"{one}: endpoints lag behind by seconds, and it drains for {drain:.0f}"


def sidecars_that_end_at_the_wrong_time(manifests: Manifests) -> Iterator[str]:
    """A publisher's outlasts its app's drain delay; a consumer's ends at once, well before its app."""
    for one in manifests.servers():
        app = environment_of(manifests, one, one.pod.spec.containers[0])
        drain = float(app["TASKWIRE_DRAIN_DELAY"])
        block = one.pod.metadata.annotations.get("dapr.io/block-shutdown-duration")
        if one.service == "task-api" and (block is None or seconds(block) < drain + 5):
            yield f"{one}: its relay publishes for {drain:.0f} s and more, its sidecar stays for {block}"
        if one.service != "task-api" and block is not None:
            yield f"{one}: blocks for {block}, and would deliver to an app that is gone"
        if any(container.lifecycle for container in one.pod.spec.all_containers()):
            yield f"{one}: a preStop hook keeps it ready while it waits; that is what TASKWIRE_DRAIN_DELAY is for"


def probes_of(container: Container) -> dict[str, Probe | None]:
    return {
        "startup": container.startup_probe,
        "readiness": container.readiness_probe,
        "liveness": container.liveness_probe,
    }


def probes_without_a_route(manifests: Manifests) -> Iterator[str]:
    """Each asks the route that is made for it, at the port that the app listens on."""
    for one in manifests.servers():
        container = one.pod.spec.containers[0]
        ports = {port.name: port.container_port for port in container.ports}
        listens = int(environment_of(manifests, one, container)["TASKWIRE_PORT"])
        for kind, probe in probes_of(container).items():
            if probe is None or probe.http_get is None:
                yield f"{one}: has no {kind} probe"
                continue
            path, port = probe.http_get.path, probe.http_get.port
            if path not in routes_of(one.service):
                yield f"{one}: {kind} asks {path}, which is no route of {one.service}"
            if path != ("/health/ready" if kind == "readiness" else "/health/live"):
                yield f"{one}: {kind} asks {path}"
            if (ports.get(port) if isinstance(port, str) else port) != listens:
                yield f"{one}: {kind} asks port {port}, and the app listens on {listens}"
        ready = container.readiness_probe
        if ready is not None and ready.timeout_seconds <= 3:
            yield f"{one}: readiness waits {ready.timeout_seconds} s, and its checks take up to 3"


def not_restricted(manifests: Manifests) -> Iterator[str]:
    """The restricted profile of Pod Security, and what it leaves open: read-only roots, no tokens."""
    for one in manifests.workloads():
        spec = one.pod.spec
        if spec.automount_service_account_token:
            yield f"{one}: gets a token for the Kubernetes API"
        if spec.enable_service_links:
            yield f"{one}: gets variables made of the names of Services"
        for container in spec.all_containers():
            for why in _beyond(spec.security_context, container.security_context):
                yield f"{one}, {container.name}: {why}"
        yield from (f"{one}: mounts a path of the node" for volume in spec.volumes if volume.host_path is not None)
        if one.service in SERVICES:
            yield from _beyond_ours(one)


def _beyond(pod: SecurityContext, own: SecurityContext) -> Iterator[str]:
    if not (pod.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root):
        yield "may be root"
    if own.allow_privilege_escalation is not False or own.privileged:
        yield "may get more rights"
    if list(own.capabilities.drop) != ["ALL"] or own.capabilities.add:
        yield "has capabilities"
    seccomp = own.seccomp_profile or pod.seccomp_profile
    if seccomp is None or seccomp.type != "RuntimeDefault":
        yield "may call everything of the kernel"


def _beyond_ours(one: Workload) -> Iterator[str]:
    for container in one.pod.spec.all_containers():
        if not container.security_context.read_only_root_filesystem:
            yield f"{one}, {container.name}: its root can be written"
        if "/tmp" not in {mount.mount_path for mount in container.volume_mounts}:  # noqa: S108
            yield f"{one}, {container.name}: has no /tmp to write to"
    if one.pod.spec.security_context.run_as_user != 10001:
        yield f"{one}: is not the user of its image"


def namespaces_that_take_any_pod(manifests: Manifests) -> Iterator[str]:
    """What the manifests keep to, the cluster demands."""
    for namespace in manifests.of("Namespace", _Labelled):
        if namespace.metadata.labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"Namespace {namespace.metadata.name}: does not enforce restricted pods"


class _Labelled(Shape):
    metadata: Metadata


def without_resources(manifests: Manifests) -> Iterator[str]:
    """Every container says what it needs, and how much memory is too much."""
    for one in manifests.workloads():
        for container in one.pod.spec.all_containers():
            missing = {"cpu", "memory"} - container.resources.requests.keys()
            yield from (f"{one}, {container.name}: requests no {name}" for name in sorted(missing))
            if "memory" not in container.resources.limits:
                yield f"{one}, {container.name}: may take all memory of its node"


def images_that_move(manifests: Manifests) -> Iterator[str]:
    """Each has a tag that stays what it is; ours is the version of the project."""
    for one in manifests.workloads():
        for container in one.pod.spec.all_containers():
            yield from (f"{one}, {container.name}: {why}" for why in _moving(container.image))
        sidecar = one.pod.metadata.annotations.get("dapr.io/sidecar-image")
        if sidecar is not None:
            yield from (f"{one}, sidecar: {why}" for why in _moving(sidecar))
        elif one in manifests.servers():
            yield f"{one}: takes whatever sidecar the control plane has"


def _moving(image: str) -> Iterator[str]:
    name, _, tag = image.rpartition(":")
    if not name or "/" in tag or tag == "latest":
        yield f"{image} has no tag that stays"
    elif "taskwire/" in name and tag != version():
        yield f"{image} is not the version of the project, {version()}"


def migrations_that_gate_nothing(manifests: Manifests) -> Iterator[str]:
    """Each service waits, before anything else, for the migration that its own image brings."""
    jobs = {one.service: one for one in manifests.migrations()}
    for one in manifests.servers():
        app, job = one.pod.spec.containers[0], jobs.get(one.service)
        first = one.pod.spec.init_containers[0] if one.pod.spec.init_containers else None
        if first is None or list(first.args) != ["wait-for-schema"] or first.image != app.image:
            yield f"{one}: does not wait for its schema"
        if job is None:
            yield f"{one}: nobody migrates for it"
            continue
        migrate = job.pod.spec.containers[0]
        if migrate.image != app.image or list(migrate.args) != ["migrate"]:
            yield f"{job}: migrates to what {migrate.image} needs, and {app.image} runs"
        databases = {
            environment_of(manifests, owner, container)["TASKWIRE_DATABASE_URL"]
            for owner, container in ((one, app), (job, migrate), *(((one, first),) if first else ()))
        }
        if len(databases) != 1:
            yield f"{job}: migrates another database"
        if not job.name.endswith("-" + version().replace(".", "-")):
            yield f"{job}: a Job cannot be changed, so its name has to end with the version"


def unprotected(manifests: Manifests) -> Iterator[str]:
    """Each service outlives the drain of a node, and blocks none."""
    budgets = manifests.of("PodDisruptionBudget", Budget)
    for one in manifests.servers():
        mine = [budget for budget in budgets if budget.spec.selector.matches(one.pod.metadata.labels)]
        if len(mine) != 1:
            yield f"{one}: has {len(mine)} disruption budgets"
    for budget in budgets:
        if not any(budget.spec.selector.matches(one.pod.metadata.labels) for one in manifests.servers()):
            yield f"PodDisruptionBudget {budget.metadata.name}: is of no pod"
        if budget.spec.min_available is not None or budget.spec.max_unavailable != 1:
            yield f"PodDisruptionBudget {budget.metadata.name}: must let go of one pod at a time, whatever their number"


class BudgetSpec(Shape):
    selector: Selector
    max_unavailable: int | str | None = None
    min_available: int | str | None = None


class Budget(Shape):
    metadata: Metadata
    spec: BudgetSpec
