"""Programs that stand for daprd and Go: scripts that know a version and do what a test says."""

from pathlib import Path

MODULE = Path(__file__).resolve().parents[2] / "daprd"
"""The sources of our daprd."""
SAYS_VERSION = "#!/bin/sh\necho {version}\n"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def fake_daprd(path: Path, version: str) -> Path:
    return script(path, SAYS_VERSION.format(version=version))


def fake_go(directory: Path, build: str, version: str = "go1.26.4") -> Path:
    """A `go` that knows its version; `build` is what `go build` does ($out is the file asked for)."""
    return script(
        directory / "go",
        f"""#!/bin/bash
if [ "$1" = version ]; then echo "go version {version} linux/amd64"; exit; fi
while [ "$1" != -o ]; do shift; done
out=$2
{build}
""",
    )


BUILDS_A_FAKE = r"""printf '#!/bin/sh\necho 1.18.1\n' > "$out"; chmod 755 "$out" """
