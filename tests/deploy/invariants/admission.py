"""Admission: no pod of ours is made without its sidecar."""

from collections.abc import Iterator, Sequence

from tests.deploy.invariants.project import SERVICES
from tests.deploy.objects import Labels, Manifests, Metadata, Selector, Shape

SIDECAR = "daprd"
"""What Dapr's injector calls its container."""

_BEFORE_PODS = (
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "NetworkPolicy",
    "Configuration",
    "Component",
)


class _Rule(Shape):
    operations: Sequence[str]
    resources: Sequence[str]


class _Match(Shape):
    resource_rules: Sequence[_Rule]
    object_selector: Selector = Selector()


class _Validation(Shape):
    expression: str


class _PolicySpec(Shape):
    failure_policy: str
    match_constraints: _Match
    validations: Sequence[_Validation]


class _Policy(Shape):
    metadata: Metadata
    spec: _PolicySpec


class _Where(Shape):
    namespace_selector: Selector = Selector()


class _BindingSpec(Shape):
    policy_name: str
    validation_actions: Sequence[str]
    match_resources: _Where = _Where()


class _Binding(Shape):
    spec: _BindingSpec


def pods_let_in_without_a_sidecar(manifests: Manifests) -> Iterator[str]:
    """The API server refuses each pod that should have a sidecar and has none, and no other pod."""
    policies = {one.metadata.name: one.spec for one in manifests.of("ValidatingAdmissionPolicy", _Policy)}
    bound = [one.spec for one in manifests.of("ValidatingAdmissionPolicyBinding", _Binding)]
    denying = [
        policies[one.policy_name]
        for one in bound
        if one.policy_name in policies
        and list(one.validation_actions) == ["Deny"]
        and one.match_resources.namespace_selector.matches({"kubernetes.io/metadata.name": "taskwire"})
        and not one.match_resources.namespace_selector.matches({"kubernetes.io/metadata.name": "default"})
    ]
    for one in manifests.workloads():
        refused = any(_refuses(policy, one.pod.metadata.labels) for policy in denying)
        wanted = one.pod.metadata.annotations.get("dapr.io/enabled") == "true"
        if wanted and not refused:
            yield f"{one}: its pods are made without a sidecar while Dapr's injector does not answer"
        if refused and not wanted:
            yield f"{one}: its pods are never made, they have no sidecar"
        if wanted != (one.service in SERVICES and one.kind == "Deployment"):
            yield f"{one}: dapr.io/enabled is {wanted}"


def _refuses(policy: _PolicySpec, labels: Labels) -> bool:
    match = policy.match_constraints
    made = any("CREATE" in rule.operations and "pods" in rule.resources for rule in match.resource_rules)
    asks = any(f"'{SIDECAR}'" in one.expression for one in policy.validations)
    return made and asks and policy.failure_policy == "Fail" and match.object_selector.matches(labels)


def pods_made_before_what_they_need(manifests: Manifests) -> Iterator[str]:
    """`kubectl apply` keeps to the order of the documents: policies and settings come before who is subject to them."""
    kinds = [str(document["kind"]) for document in manifests.documents]
    first = min(kinds.index(kind) for kind in ("Deployment", "Job", "StatefulSet") if kind in kinds)
    for kind in (
        "Namespace",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "NetworkPolicy",
        "Component",
    ):
        if kind not in kinds[:first] or kind in kinds[first:]:
            yield f"{kind} comes after {kinds[first]}"
