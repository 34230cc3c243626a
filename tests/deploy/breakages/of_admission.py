"""Edits that the checks of `invariants/admission.py` must notice."""

from typing import Final

from tests.deploy.breakages.edit import ANNOTATIONS, GONE, Breakage
from tests.deploy.invariants import admission

_POLICY: Final = ("ValidatingAdmissionPolicy", "taskwire-sidecars")
_ANOTHER: Final = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "another"},
}
_BINDING: Final = ("ValidatingAdmissionPolicyBinding", "taskwire-sidecars")

BREAKAGES: Final = [
    Breakage("no policy", admission.pods_let_in_without_a_sidecar, *_POLICY, (), GONE),
    Breakage("a policy that is nowhere in force", admission.pods_let_in_without_a_sidecar, *_BINDING, (), GONE),
    Breakage(
        "a policy that only warns",
        admission.pods_let_in_without_a_sidecar,
        *_BINDING,
        ("spec", "validationActions"),
        ["Warn"],
    ),
    Breakage(
        "a policy for another namespace",
        admission.pods_let_in_without_a_sidecar,
        *_BINDING,
        ("spec", "matchResources", "namespaceSelector", "matchLabels", "kubernetes.io/metadata.name"),
        "default",
    ),
    Breakage(
        "a policy for the whole cluster",
        admission.pods_let_in_without_a_sidecar,
        *_BINDING,
        ("spec", "matchResources"),
        GONE,
    ),
    Breakage(
        "a policy that gives way",
        admission.pods_let_in_without_a_sidecar,
        *_POLICY,
        ("spec", "failurePolicy"),
        "Ignore",
    ),
    Breakage(
        "a policy for one service",
        admission.pods_let_in_without_a_sidecar,
        *_POLICY,
        ("spec", "matchConstraints", "objectSelector", "matchLabels", "app.kubernetes.io/name"),
        "task-api",
    ),
    Breakage(
        "a policy that stops migrations",
        admission.pods_let_in_without_a_sidecar,
        *_POLICY,
        ("spec", "matchConstraints", "objectSelector"),
        GONE,
        told="never made",
    ),
    Breakage(
        "a policy about another container",
        admission.pods_let_in_without_a_sidecar,
        *_POLICY,
        ("spec", "validations", 0, "expression"),
        "object.spec.containers.exists(one, one.name == 'app')",
    ),
    Breakage(
        "a service without a sidecar",
        admission.pods_let_in_without_a_sidecar,
        "Deployment",
        "notifier",
        (*ANNOTATIONS, "dapr.io/enabled"),
        GONE,
        told="never made",
    ),
    Breakage(
        "a policy that comes last",
        admission.pods_made_before_what_they_need,
        *_POLICY,
        (),
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "x"},
        },
    ),
]
