import hashlib
import json
import tarfile
from pathlib import Path
from typing import IO

from cluster import scratch_image


def test_an_image_is_one_program_of_a_user_that_is_not_root(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    archive = scratch_image.write(tmp_path / "image.tar", "example.com/x:1", {"/x": program}, ["/x"])
    with tarfile.open(archive) as image:
        (manifest,) = json.load(_file(image, "manifest.json"))
        config = json.load(_file(image, manifest["Config"]))
        layer = _file(image, manifest["Layers"][0]).read()
        with tarfile.open(fileobj=_file(image, manifest["Layers"][0])) as files:
            assert [(one.name, one.mode) for one in files] == [("x", 0o755)]
            assert _file(files, "x").read() == b"\x7fELF"
    assert manifest["RepoTags"] == ["example.com/x:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert config["config"]["Entrypoint"] == ["/x"]
    assert int(config["config"]["User"].split(":")[0]) > 0


def _file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    opened = archive.extractfile(name)
    assert opened is not None
    return opened
