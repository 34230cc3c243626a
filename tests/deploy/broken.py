"""Our manifests with one mistake each, as people make them, and what a server has to say to it."""

from dataclasses import dataclass
from typing import Final

from tests.deploy.api_checks import Gone


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        what: In words; the name of its test.
        target: `Kind/name` of the manifest that is changed; `Pod/name` is the pod of the Deployment of that name.
        path: What is changed.
        value: What is there then.
        refusal: Part of the server's answer.
        overlay: Where the manifest is.
    """

    what: str
    target: str
    path: str
    value: object
    refusal: str
    overlay: str = "local"


_APP: Final = "spec/template/spec/containers/0"

MISTAKES: Final = (
    Mistake(
        "the selector finds other pods than its own",
        "Deployment/task-api", "spec/selector/matchLabels/app.kubernetes.io~1name", "another",
        "`selector` does not match template `labels`",
    ),
    Mistake("a field is misspelt", "Deployment/task-api", "spec/replica", 2, 'unknown field "spec.replica"'),
    Mistake(
        "a field of a container is misspelt",
        "Deployment/notifier", f"{_APP}/readynessProbe", {}, 'unknown field "spec.template.spec.containers[0].ready',
    ),
    Mistake(
        "a number is a word", "Deployment/notifier", "spec/minReadySeconds", "five", "cannot unmarshal string",
    ),
    Mistake("there is no image", "Deployment/audit-worker", f"{_APP}/image", Gone, "image: Required value"),
    Mistake(
        "more memory is asked for than allowed",
        "Deployment/task-api", f"{_APP}/resources/requests/memory", "100Gi",
        "must be less than or equal to memory limit",
    ),
    Mistake(
        "a mounted volume is not there",
        "Deployment/audit-worker", f"{_APP}/volumeMounts/0/name", "elsewhere", 'Not found: "elsewhere"',
    ),
    Mistake(
        "an update may add no pod and take none away",
        "Deployment/task-api", "spec/strategy/rollingUpdate", {"maxSurge": 0, "maxUnavailable": 0},
        "may not be 0 when `maxSurge` is 0",
    ),
    Mistake(
        "a liveness probe wants two successes",
        "Deployment/task-api", f"{_APP}/livenessProbe/successThreshold", 2,
        "successThreshold: Invalid value: 2: must be 1",
    ),
    Mistake(
        "a probe has two ways of asking",
        "Deployment/notifier", f"{_APP}/readinessProbe/tcpSocket", {"port": 8000},
        "may not specify more than 1 handler",
    ),
    Mistake(
        "pods are spread over nothing",
        "Deployment/task-api", "spec/template/spec/topologySpreadConstraints/0/topologyKey", Gone,
        "topologyKey: Required value",
    ),
    Mistake(
        "a port is out of range", "Service/task-api", "spec/ports/0/port", 70_000, "must be between 1 and 65535",
    ),
    Mistake(
        "a disruption budget has both limits",
        "PodDisruptionBudget/task-api", "spec/minAvailable", 1, "minAvailable and maxUnavailable cannot be both set",
    ),
    Mistake(
        "an API version was removed years ago",
        "PodDisruptionBudget/task-api", "apiVersion", "policy/v1beta1",
        'no matches for kind "PodDisruptionBudget" in version "policy/v1beta1"',
    ),
    Mistake(
        "an autoscaler's least is more than its most",
        "HorizontalPodAutoscaler/task-api", "spec/minReplicas", 1_000,
        "must be greater than or equal to `minReplicas`", "production",
    ),
    Mistake(
        "a network policy names a port that cannot be",
        "NetworkPolicy/to-postgres", "spec/egress/0/ports/0/port", 0, "must be between 1 and 65535",
    ),
    Mistake(
        "a Component has no type", "Component/pubsub", "spec/type", Gone, "spec.type: Required value",
    ),
    Mistake(
        "a field of a Component is misspelt", "Component/pubsub", "spec/meta", [], 'unknown field "spec.meta"',
    ),
    Mistake(
        "a scope is no list", "Component/pubsub", "scopes", "task-api", "scopes: Invalid value",
    ),
    Mistake(
        "a retry's duration has another name",
        "Resiliency/taskwire", "spec/policies/retries/delivery/interval", "3s",
        'unknown field "spec.policies.retries.delivery.interval"',
    ),
    Mistake(
        "a Configuration's rate is a number",
        "Configuration/taskwire", "spec/tracing/samplingRate", 1, "samplingRate: Invalid value",
    ),
    Mistake(
        "consumers are scaled by nothing",
        "ScaledObject/notifier", "spec/triggers", Gone, "spec.triggers: Required value", "production",
    ),
    Mistake(
        "consumers may be as many as a word says",
        "ScaledObject/notifier", "spec/maxReplicaCount", "6", "spec.maxReplicaCount: Invalid value", "production",
    ),
    Mistake(
        "metrics are asked for without a unit of time",
        "PodMonitor/taskwire", "spec/podMetricsEndpoints/0/interval", "15",
        "podMetricsEndpoints[0].interval: Invalid value", "production",
    ),
    Mistake(
        "a secret is refreshed by a policy that is none",
        "ExternalSecret/task-api", "spec/refreshPolicy", "Sometimes",
        "spec.refreshPolicy: Unsupported value", "production",
    ),
    Mistake(
        "an Ingress leads to no port",
        "Ingress/task-api", "spec/rules/0/http/paths/0/backend/service/port", {}, "port name or number is required",
        "production",
    ),
    Mistake(
        "a pod is privileged",
        "Pod/task-api", "spec/containers/0/securityContext", {"privileged": True}, 'violates PodSecurity "restricted',
    ),
    Mistake(
        "a pod shares the machine's network",
        "Pod/task-api", "spec/hostNetwork", True, 'violates PodSecurity "restricted',
    ),
    Mistake(
        "a pod may be root",
        "Pod/notifier", "spec/securityContext/runAsNonRoot", Gone, 'runAsNonRoot != true',
    ),
    Mistake(
        "a pod is root's", "Pod/notifier", "spec/securityContext/runAsUser", 0, "runAsUser=0",
    ),
    Mistake(
        "a program may become more than it is",
        "Pod/audit-worker", "spec/containers/0/securityContext/allowPrivilegeEscalation", True,
        "allowPrivilegeEscalation != false",
    ),
    Mistake(
        "a program keeps its capabilities",
        "Pod/audit-worker", "spec/containers/0/securityContext/capabilities", Gone, "unrestricted capabilities",
    ),
    Mistake(
        "a pod has a directory of the machine",
        "Pod/task-api", "spec/volumes/0", {"name": "tmp", "hostPath": {"path": "/"}}, "restricted volume types",
    ),
    Mistake(
        "system calls are not filtered",
        "Pod/task-api", "spec/securityContext/seccompProfile", Gone, "seccompProfile",
    ),
)  # fmt: skip
