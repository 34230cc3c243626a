"""Rung (b): what a real Kubernetes API server says to our manifests, and to the same with a mistake in them.

`make cluster-tools` builds the server once. Strict: a field that the server does not know is an error. Of a Dapr
Component the type is not checked (any string will do for its definition): that only daprd finds, in rung (c).
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest
from tests.deploy.api_checks import (
    changed,
    kinds,
    make_namespaces,
    pod_of,
    pods,
    read,
    strict_dry_run,
)
from tests.deploy.asked import require_asked
from tests.deploy.broken import MISTAKES, Mistake
from tests.deploy.invariants.admission import SIDECAR
from tests.deploy.rendering import K8S, Renderer

from cluster.api_server import ApiServer, Place
from cluster.background import Background
from cluster.custom_resources import apply_definitions, definitions
from cluster.kubectl import Kubectl, Manifest
from cluster.programs import API_SERVER, found, missing
from devstack.layout import Layout
from devstack.polling import within

NAMES: Final = sorted(path.name for path in (K8S / "overlays").iterdir())
PATIENCE: Final = 90.0
_WITHOUT_DEFINITIONS: Final = ("strimzi.io", "cnpg.io")
"""Strimzi is written in Java; CloudNativePG's Go module is not everywhere to be had."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    require_asked("at an API server")
    cache = Layout.from_environment(dict(os.environ)).cache
    if absent := missing(API_SERVER, cache):
        names = ", ".join(program.name for program in absent)
        pytest.skip(f"NOT CHECKED at an API server: {names} not built; make cluster-tools builds them")
    home = tmp_path_factory.mktemp("api-server")
    background = Background(home / "logs")
    try:
        api = ApiServer(home, found(API_SERVER, cache), Place.free(), background)
        api.start()
        apply_definitions(api.kubectl, definitions(cache, print))
        yield api.kubectl
    finally:
        background.stop()


@pytest.fixture(scope="module")
def overlays(server: Kubectl, rendered: Renderer) -> dict[str, list[Manifest]]:
    """Every overlay, and the namespaces they are in."""
    read_ones = {overlay: read(rendered.text(f"overlays/{overlay}")) for overlay in NAMES}
    make_namespaces(server, [manifest for manifests in read_ones.values() for manifest in manifests])
    return read_ones


@pytest.fixture(scope="module")
def known(server: Kubectl) -> set[tuple[str, str]]:
    return kinds(server)


@pytest.mark.parametrize("overlay", NAMES)
def test_an_overlay_is_taken_as_it_is(
    server: Kubectl, overlays: dict[str, list[Manifest]], known: set[tuple[str, str]], overlay: str
) -> None:
    checked = [one for one in overlays[overlay] if (one["apiVersion"], one["kind"]) in known]
    answer = strict_dry_run(server, checked)
    assert answer.ok, answer.errors
    assert "Warning" not in answer.errors
    assert len(answer.output.splitlines()) == len(checked) > 20


@pytest.mark.parametrize("overlay", NAMES)
def test_every_pod_of_an_overlay_meets_the_restricted_standard(
    server: Kubectl, overlays: dict[str, list[Manifest]], overlay: str
) -> None:
    made = pods(overlays[overlay])
    answer = strict_dry_run(server, made)
    assert answer.ok, answer.errors
    assert len(answer.output.splitlines()) == len(made) >= 4


@pytest.mark.parametrize("overlay", NAMES)
def test_no_kind_is_unknown_to_the_server(
    overlays: dict[str, list[Manifest]], known: set[tuple[str, str]], overlay: str
) -> None:
    """Skipped, by name, what is of projects whose definitions no Go module has."""
    unknown = Counter(
        f"{one['kind']} ({one['apiVersion']})"
        for one in overlays[overlay]
        if (one["apiVersion"], one["kind"]) not in known
    )
    ours = [name for name in unknown if not any(group in name for group in _WITHOUT_DEFINITIONS)]
    assert not ours
    if unknown:
        listed = ", ".join(f"{count} {name}" for name, count in sorted(unknown.items()))
        pytest.skip(f"NOT CHECKED at an API server, their definitions are in no Go module: {listed}")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake_is_refused(server: Kubectl, overlays: dict[str, list[Manifest]], mistake: Mistake) -> None:
    right = _find(overlays[mistake.overlay], mistake.target)
    accepted = strict_dry_run(server, [right])
    assert accepted.ok, accepted.errors
    refused = strict_dry_run(server, [changed(right, mistake.path, mistake.value)])
    assert not refused.ok, f"taken: {refused.output}"
    assert mistake.refusal in refused.errors


@pytest.mark.parametrize("overlay", NAMES)
async def test_a_pod_that_was_given_no_sidecar_is_refused(
    server: Kubectl, overlays: dict[str, list[Manifest]], overlay: str
) -> None:
    kinds_of_policies = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    policies = [one for one in overlays[overlay] if one["kind"] in kinds_of_policies]
    bare = pod_of(_find(overlays[overlay], "Deployment/notifier"))
    sidecar = {"name": SIDECAR, "image": "daprd", "securityContext": bare["spec"]["containers"][0]["securityContext"]}
    whole = changed(bare, "spec/containers", [*bare["spec"]["containers"], sidecar])
    migration = pod_of(next(one for one in overlays[overlay] if one["kind"] == "Job"))

    async def refused() -> bool:
        return not strict_dry_run(server, [bare]).ok

    async def taken() -> bool:
        return strict_dry_run(server, [bare]).ok

    server.apply(policies)
    try:
        assert await within(PATIENCE, refused, 0.2), "a policy counts from some moments after it was made"
        assert "there is no sidecar in this pod" in strict_dry_run(server, [bare]).errors
        assert strict_dry_run(server, [whole]).ok
        assert strict_dry_run(server, [migration]).ok
    finally:
        for one in policies:
            server.run("delete", one["kind"], one["metadata"]["name"])
    assert await within(PATIENCE, taken, 0.2), "the tests after this one need that"


def test_a_type_of_component_that_does_not_exist_is_not_noticed_here(
    server: Kubectl, overlays: dict[str, list[Manifest]]
) -> None:
    """Where this rung ends: the day it fails, the sentence about it in docs/kubernetes-proof.md has to go."""
    component = _find(overlays["local"], "Component/pubsub")
    assert strict_dry_run(server, [changed(component, "spec/type", "pubsub.carrier-pigeon")]).ok


def _find(manifests: list[Manifest], target: str) -> Manifest:
    kind, _, name = target.partition("/")
    wanted = "Deployment" if kind == "Pod" else kind
    (found_one,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (wanted, name)]
    return pod_of(found_one) if kind == "Pod" else found_one
