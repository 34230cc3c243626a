"""What Dapr itself says of its resources and annotations: the very version that tools/daprd is built of.

Schemas are as the API server reads them: it refuses fields that they do not name, so these do too.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml
from pydantic import JsonValue

from devstack.daprd_binary import MODULE
from devstack.filelock import exclusive
from devstack.go_toolchain import ensure_go

_PATIENCE: Final = 300
Schema = dict[str, JsonValue]


def dapr_source(cache: Path) -> Path:
    """A directory with Dapr's CustomResourceDefinitions and its list of annotations; fetched once, a module of 20 MB.

    Raises:
        ProvisionError: There is no Go to fetch it with.
        subprocess.CalledProcessError: The module proxy does not give it.
    """
    version = next(line.split()[1] for line in (MODULE / "go.mod").read_text().splitlines() if "dapr/dapr v" in line)
    kept = cache / "dapr-source" / version
    with exclusive(cache / "dapr-source.lock"):
        if not kept.exists():
            go, scratch = ensure_go(MODULE, cache, print), cache / "dapr-source" / "fetching"
            environment = os.environ | {"GOMODCACHE": str(scratch), "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}
            answer = subprocess.run(
                [go, "mod", "download", "-json", "github.com/dapr/dapr"],
                cwd=MODULE, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=True,
            ).stdout  # fmt: skip
            found = Path(str(json.loads(answer)["Dir"]))
            fresh = kept.with_name(f"{version}.new")
            shutil.copytree(found / "charts" / "dapr" / "crds", fresh, dirs_exist_ok=True)
            shutil.copy(found / "pkg" / "injector" / "annotations" / "annotations.go", fresh)
            fresh.rename(kept)
            shutil.rmtree(scratch, ignore_errors=True)
    return kept


def annotations(directory: Path) -> frozenset[str]:
    """Every annotation that Dapr's injector reads; one that it does not know it does not mention."""
    return frozenset(re.findall(r'= "(dapr\.io/[\w-]+)"', (directory / "annotations.go").read_text()))


def schemas(directory: Path) -> Mapping[tuple[str, str], Schema]:
    """The schema of each `apiVersion` and `kind` that the definitions in a directory have."""
    found = {}
    for path in directory.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            spec = document["spec"]
            for version in spec["versions"]:
                key = f"{spec['group']}/{version['name']}", str(spec["names"]["kind"])
                found[key] = _strict(version["schema"]["openAPIV3Schema"])
    return found


def _strict(schema: Schema) -> Schema:
    """The same schema, with no fields but those that it names."""
    strict: Schema = {name: _strict(part) if isinstance(part, dict) else part for name, part in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, dict) and schema.get("type") == "object":
        strict["properties"] = {
            name: _strict(part) if isinstance(part, dict) else part for name, part in properties.items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            strict["additionalProperties"] = False
    return strict
