"""Images of one static program and nothing else, made without a container engine."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_NOBODY: Final = "65532:65532"


def write(archive: Path, name: str, files: Mapping[str, Path], entrypoint: Sequence[str]) -> Path:
    """Write an image as `docker save` would.

    Args:
        archive: Where.
        name: With its tag.
        files: What is in it: absolute path in the image → file here.
        entrypoint: What it runs.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for inside, path in files.items():
            entry = tarfile.TarInfo(inside.lstrip("/"))
            entry.size, entry.mode = path.stat().st_size, 0o755
            with path.open("rb") as content:
                tar.addfile(entry, content)
    blob = layer.getvalue()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "User": _NOBODY, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(blob).hexdigest()}"]},
        }
    ).encode()
    named = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": named, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, mode="w") as tar:
        for inside, content_bytes in (("layer.tar", blob), (named, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(inside)
            entry.size = len(content_bytes)
            tar.addfile(entry, io.BytesIO(content_bytes))
    return archive
