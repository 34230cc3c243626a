"""The committed files, and whether they are what the code generates."""

from collections.abc import Mapping
from pathlib import Path


def write_files(directory: Path, files: Mapping[str, str]) -> list[str]:
    """Write the files that differ; gives their names."""
    stale = differing(directory, files)
    for name in stale:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(files[name], encoding="utf-8")
    return stale


def differing(directory: Path, files: Mapping[str, str]) -> list[str]:
    """Give the names of files that are missing or say something else."""
    return [name for name, text in files.items() if not _says(directory / name, text)]


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
