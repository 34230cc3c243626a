"""deploy/k8s as it is written: whole overlays are rendered by a real kustomize, and looked at.

`test_manifests_broken.py` breaks them, and has each of these checks notice.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
import yaml
from tests.deploy.invariants import admission, connections, environments, pods, scaling, sidecars, wiring
from tests.deploy.objects import Manifests
from tests.deploy.rendering import COMPONENTS, OVERLAYS, Renderer

from devstack.layout import REPOSITORY
from manifests import alert_rules, local_secrets

Check = Callable[[Manifests], Iterator[str]]
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def holds(check: Check, manifests: Manifests) -> bool:
    """Whether a check finds nothing; what it finds is what the failure says."""
    found = list(check(manifests))
    assert not found, "\n".join(found)
    return True


@every_overlay
def test_a_pod_has_the_time_that_its_app_and_its_sidecar_need_to_end(rendered: Renderer, overlay: str) -> None:
    assert holds(pods.too_little_time_to_end, rendered(overlay))


@every_overlay
def test_a_publishers_sidecar_outlasts_its_app_and_a_consumers_ends_at_once(rendered: Renderer, overlay: str) -> None:
    assert holds(pods.sidecars_that_end_at_the_wrong_time, rendered(overlay))


@every_overlay
def test_probes_ask_routes_that_are_there(rendered: Renderer, overlay: str) -> None:
    assert holds(pods.probes_without_a_route, rendered(overlay))


@every_overlay
def test_pods_keep_to_what_restricted_namespaces_demand_and_more(rendered: Renderer, overlay: str) -> None:
    assert holds(pods.not_restricted, rendered(overlay))
    assert holds(pods.namespaces_that_take_any_pod, rendered(overlay))


@every_overlay
def test_every_container_says_what_it_needs(rendered: Renderer, overlay: str) -> None:
    assert holds(pods.without_resources, rendered(overlay))


@every_overlay
def test_images_have_a_tag_that_stays_and_ours_that_of_the_project(rendered: Renderer, overlay: str) -> None:
    assert holds(pods.images_that_move, rendered(overlay))


@every_overlay
def test_a_service_waits_for_the_migration_of_its_own_image(rendered: Renderer, overlay: str) -> None:
    assert holds(pods.migrations_that_gate_nothing, rendered(overlay))


@every_overlay
def test_a_drained_node_takes_one_pod_of_a_service_at_a_time(rendered: Renderer, overlay: str) -> None:
    assert holds(pods.unprotected, rendered(overlay))


@every_overlay
def test_no_pod_is_made_without_its_sidecar(rendered: Renderer, overlay: str) -> None:
    assert holds(admission.pods_let_in_without_a_sidecar, rendered(overlay))


@every_overlay
def test_what_pods_are_subject_to_is_applied_before_them(rendered: Renderer, overlay: str) -> None:
    assert holds(admission.pods_made_before_what_they_need, rendered(overlay))


@every_overlay
def test_no_variable_is_given_that_the_service_does_not_read(rendered: Renderer, overlay: str) -> None:
    assert holds(environments.unknown_variables, rendered(overlay))


@every_overlay
def test_the_settings_of_every_container_let_its_service_start(rendered: Renderer, overlay: str) -> None:
    assert holds(environments.services_that_would_not_start, rendered(overlay))


@every_overlay
def test_secrets_are_referred_to_and_never_written_out(rendered: Renderer, overlay: str) -> None:
    assert holds(environments.secrets_in_the_open, rendered(overlay))


@every_overlay
def test_what_is_referred_to_is_there(rendered: Renderer, overlay: str) -> None:
    assert holds(environments.references_to_nothing, rendered(overlay))


@every_overlay
def test_app_and_sidecar_share_tokens_that_no_other_pair_has(rendered: Renderer, overlay: str) -> None:
    assert holds(environments.tokens_of_another_pair, rendered(overlay))


@every_overlay
def test_the_cluster_gets_the_files_of_components(rendered: Renderer, overlay: str) -> None:
    assert holds(sidecars.drift, rendered(overlay))


@every_overlay
def test_every_component_is_for_apps_that_are_named(rendered: Renderer, overlay: str) -> None:
    assert holds(sidecars.open_to_all, rendered(overlay))


@every_overlay
def test_no_app_may_be_called_through_dapr(rendered: Renderer, overlay: str) -> None:
    assert holds(sidecars.invocable, rendered(overlay))


@every_overlay
def test_sidecars_have_the_settings_they_were_measured_with(rendered: Renderer, overlay: str) -> None:
    assert holds(sidecars.sidecars_unlike_the_native_ones, rendered(overlay))
    assert holds(sidecars.variables_nobody_gives_the_sidecar, rendered(overlay))


@every_overlay
def test_topics_have_the_names_and_partitions_of_the_code(rendered: Renderer, overlay: str) -> None:
    assert holds(sidecars.topics_unlike_the_code, rendered(overlay))


@every_overlay
def test_one_at_most_says_how_many_replicas_there_are(rendered: Renderer, overlay: str) -> None:
    assert holds(scaling.two_who_say_how_many, rendered(overlay))


@every_overlay
def test_what_people_call_is_there_twice_and_stays_there_during_updates(rendered: Renderer, overlay: str) -> None:
    assert holds(scaling.without_a_second, rendered(overlay))


@every_overlay
def test_consumers_are_never_more_than_partitions(rendered: Renderer, overlay: str) -> None:
    assert holds(scaling.more_consumers_than_partitions, rendered(overlay))


@every_overlay
def test_autoscalers_wait_before_they_take_pods_away(rendered: Renderer, overlay: str) -> None:
    assert holds(scaling.taken_away_at_every_lull, rendered(overlay))


@every_overlay
def test_keda_looks_at_the_group_of_the_app_id(rendered: Renderer, overlay: str) -> None:
    assert holds(scaling.lag_of_somebody_else, rendered(overlay))


@every_overlay
def test_all_replicas_together_fit_into_the_connections_of_postgresql(rendered: Renderer, overlay: str) -> None:
    assert holds(scaling.more_connections_than_postgres_has, rendered(overlay))


@every_overlay
def test_selectors_choose_the_pods_they_mean(rendered: Renderer, overlay: str) -> None:
    assert holds(wiring.selectors_that_miss, rendered(overlay))
    assert holds(wiring.accounts_of_nobody, rendered(overlay))


@every_overlay
def test_the_ingress_leads_to_all_of_each_api_and_to_nothing_else(rendered: Renderer, overlay: str) -> None:
    assert holds(wiring.paths_that_lead_wrong, rendered(overlay))


@every_overlay
def test_prometheus_finds_apps_and_sidecars(rendered: Renderer, overlay: str) -> None:
    assert holds(wiring.ports_nobody_scrapes, rendered(overlay))
    assert holds(wiring.jobs_the_alerts_do_not_know, rendered(overlay))


def test_the_operator_gets_the_alerts_of_deploy_observability() -> None:
    rules = yaml.safe_load((REPOSITORY / alert_rules.RULES).read_text())
    written = (REPOSITORY / alert_rules.WRITTEN).read_text()
    assert yaml.safe_load(written)["spec"] == rules, "run `make dashboards`"
    assert written == alert_rules.as_object((REPOSITORY / alert_rules.RULES).read_text()), "run `make dashboards`"


def test_images_of_others_are_the_ones_of_docker_compose(rendered: Renderer) -> None:
    compose = set(re.findall(r"image: (\S+)", (REPOSITORY / "docker-compose.yml").read_text()))
    workloads = rendered("overlays/local").workloads()
    images = {container.image for one in workloads for container in one.pod.spec.all_containers()}
    images |= {one.pod.metadata.annotations.get("dapr.io/sidecar-image", "") for one in workloads} - {""}
    assert images <= compose


@every_overlay
def test_the_broker_demands_what_the_scopes_of_the_component_say(rendered: Renderer, overlay: str) -> None:
    assert holds(wiring.rights_at_the_broker, rendered(overlay))


@every_overlay
def test_network_policies_let_through_what_each_service_needs(rendered: Renderer, overlay: str) -> None:
    assert holds(connections.cut_off, rendered(overlay))
    assert holds(connections.policies_of_nobody, rendered(overlay))


@every_overlay
def test_network_policies_let_nothing_else_through(rendered: Renderer, overlay: str) -> None:
    assert holds(connections.let_through, rendered(overlay))


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_optional_part_can_be_had_by_itself(rendered: Renderer, component: str) -> None:
    alone = rendered.with_components([component])
    assert set(rendered("base").names()) - {("ConfigMap", name) for name in rendered("base").config_maps()} <= set(
        alone.names()
    )
    assert alone.documents != rendered("base").documents


def test_production_has_all_there_is(rendered: Renderer) -> None:
    chosen = yaml.safe_load((rendered.copy / "overlays/production/kustomization.yaml").read_text())["components"]
    assert sorted(path.rpartition("/")[2] for path in chosen) == sorted(COMPONENTS)


def test_production_brings_no_secret_along(rendered: Renderer) -> None:
    assert not rendered("base").secrets()
    assert not rendered("overlays/production").secrets()


def test_git_holds_no_secret_of_the_local_overlay() -> None:
    git = shutil.which("git")
    assert git is not None
    held = subprocess.run(
        [git, "ls-files", "--", "deploy/k8s"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert held
    assert not [path for path in held if re.search(r"/secrets/|\.key$|\.pem$", path)]


def test_the_secrets_of_the_local_overlay_are_new_each_time_and_for_their_owner_alone(rendered: Renderer) -> None:
    directory = rendered.copy / "overlays" / "local" / "secrets"
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert not local_secrets.write(directory), "what is there already stays"
    one, other = local_secrets.made(), local_secrets.made()
    assert one.keys() == other.keys() == rendered("overlays/local").secrets().keys()
    assert all(one[name] != other[name] for name in one)


def test_the_version_is_that_of_the_project_wherever_it_is_written(rendered: Renderer) -> None:
    version = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    base = yaml.safe_load((rendered.copy / "base/kustomization.yaml").read_text())
    suffix = yaml.safe_load((rendered.copy / "base/migrations/kustomization.yaml").read_text())["nameSuffix"]
    assert {image["newTag"] for image in base["images"]} == {version[1]}
    assert suffix == "-" + version[1].replace(".", "-")
