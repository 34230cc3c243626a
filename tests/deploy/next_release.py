"""The release after this one: the same code, one revision of each schema more, under a tag of its own.

It is brought up as any release is (docs/kubernetes.md): a tag in base/kustomization.yaml, the suffix of the migration
Jobs, images that a cluster does not have yet. What it adds is a column that nobody reads.
"""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.deploy.api_checks import read
from tests.deploy.entrances import SERVICES
from tests.deploy.rendering import Renderer

from cluster.kubectl import Manifest
from containers.docker import docker

LATER: Final = "-next"
"""Behind the tag of this release."""

_COLUMN: Final = "of_the_next_release"
_TABLES: Final = {"task-api": "tasks", "audit-worker": "chain_head", "notifier": "notifications"}
_ANSWER_WITHIN: Final = 60.0
_BUILD_WITHIN: Final = 300.0
_WHERE: Final = """
from alembic.script import ScriptDirectory
from chassis.migrations import alembic_config
scripts = ScriptDirectory.from_config(alembic_config("{package}"))
print(scripts.versions, scripts.get_current_head())
"""
"""Asks an image where its revisions are, and for the last one."""

_REVISION: Final = '''"""What nobody reads."""

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision: str | None = "{head}"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add it."""
    op.add_column("{table}", sa.Column("{column}", sa.Text()))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("{table}", "{column}")
'''


@dataclass(frozen=True)
class NextRelease:
    """What an operator applies.

    Attributes:
        manifests: The overlay with the next tag.
    """

    manifests: Sequence[Manifest]

    def of(self, service: str, kind: str) -> list[Manifest]:
        """Its Deployment, or the Job that migrates its database."""
        name = "app.kubernetes.io/name"
        found = [
            one for one in self.manifests if one["kind"] == kind and one["metadata"]["labels"].get(name) == service
        ]
        assert found, f"the next release has no {kind} of {service}"
        return found


def rendered(renderer: Renderer, overlay: str) -> NextRelease:
    """The overlay, edited as for a release."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(renderer.copy.parents[1], directory, dirs_exist_ok=True)
        copy = Path(directory) / "deploy" / "k8s"
        _edit(copy / "base" / "kustomization.yaml", r"newTag: \S+", times=len(SERVICES))
        _edit(copy / "base" / "migrations" / "kustomization.yaml", r"nameSuffix: \S+", times=1)
        return NextRelease(read(renderer.render(copy / overlay)))


def build_images(images: Sequence[str]) -> list[str]:
    """Make its images out of those of this release, without any registry; gives their names.

    Raises:
        ProvisionError: Docker could not.
    """
    return [_build(image, service) for image in images for service in SERVICES if f"/{service}:" in image]


def remove_images(images: Sequence[str]) -> None:
    """Take them out of the machine's Docker again."""
    docker("image", "rm", "--force", *images, timeout=_ANSWER_WITHIN)


def _build(image: str, service: str) -> str:
    question = _WHERE.format(package=service.replace("-", "_"))
    answer = docker("run", "--rm", "--entrypoint", "python", image, "-c", question, timeout=_ANSWER_WITHIN)
    place, head = answer.split()
    with tempfile.TemporaryDirectory() as directory:
        revision = Path(directory) / "next_release.py"
        revision.write_text(_REVISION.format(head=head, table=_TABLES[service], column=_COLUMN))
        revision.chmod(0o644)
        (Path(directory) / "Dockerfile").write_text(f"FROM {image}\nCOPY next_release.py {place}/\n")
        docker("build", "--quiet", "--tag", image + LATER, directory, timeout=_BUILD_WITHIN)
    return image + LATER


def _edit(file: Path, pattern: str, times: int) -> None:
    text, found = re.subn(pattern, lambda match: match[0] + LATER, file.read_text())
    assert found == times, f"{file}: {pattern} is there {found} times"
    file.write_text(text)
