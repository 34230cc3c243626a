"""Each check of `test_manifests.py` notices what it is there for: one edit of a whole overlay, one sentence."""

from typing import Final

import pytest
from tests.deploy.breakages import (
    of_admission,
    of_connections,
    of_environments,
    of_pods,
    of_scaling,
    of_sidecars,
    of_wiring,
)
from tests.deploy.breakages.edit import Breakage
from tests.deploy.rendering import Renderer

EVERY: Final = [
    *of_admission.BREAKAGES,
    *of_pods.BREAKAGES,
    *of_environments.BREAKAGES,
    *of_sidecars.BREAKAGES,
    *of_scaling.BREAKAGES,
    *of_wiring.BREAKAGES,
    *of_connections.BREAKAGES,
]


@pytest.mark.parametrize("breakage", EVERY, ids=lambda one: f"{one.check.__name__}: {one.why}")
def test_a_check_notices(rendered: Renderer, breakage: Breakage) -> None:
    # That it finds nothing in what is whole, test_manifests.py asserts.
    found = list(breakage.check(breakage.applied(rendered(breakage.overlay))))

    assert found, "nothing was noticed"
    assert breakage.told in "\n".join(found)
