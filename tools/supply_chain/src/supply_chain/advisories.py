"""Known vulnerabilities of the locked dependencies, as pip-audit has them from the package index."""

import re
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
from packaging.version import Version
from pip_audit._service import (
    PyPIService,
    ResolvedDependency,
    ServiceError,
    VulnerabilityResult,
    VulnerabilityService,
)

from supply_chain.exceptions import Exceptions

_TIMEOUT: Final = 10
_AT_ONCE: Final = 8
_GIVES_UP_AFTER: Final = 16
_RELEASE: Final = re.compile(r"(?P<package>.+)/(?P<version>[^/]+)/json")
_NOT_FOUND: Final = 404


@dataclass
class Verdict:
    """What is known of the dependencies.

    Attributes:
        checked: How many were asked about and known.
        unknown: Those the source knows nothing of, in this version, or could not be asked about.
        problems: What must be repaired.
        unreachable: Why some could not be asked about.
    """

    checked: int = 0
    unknown: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unreachable: str | None = None


def locked(lock: Path) -> list[ResolvedDependency]:
    """Read what is installed from an index, for any platform, from uv.lock."""
    packages = tomllib.loads(lock.read_text())["package"]
    return [
        ResolvedDependency(package["name"], Version(package["version"]))
        for package in packages
        if "registry" in package["source"]
    ]


def index_service(cache: Path) -> VulnerabilityService:
    """Make pip-audit's own service, which also understands indexes that have no page for each release.

    Mirrors often have only the page of the newest one: it is as good when that is the one that is locked.
    """
    service = PyPIService(cache, _TIMEOUT)
    session = service.session

    def newest_instead(response: requests.Response, **_: object) -> requests.Response:
        asked = _RELEASE.fullmatch(response.url)
        if response.status_code != _NOT_FOUND or asked is None:
            return response
        general = session.get(f"{asked['package']}/json", timeout=_TIMEOUT)
        return general if general.ok and general.json()["info"]["version"] == asked["version"] else response

    session.hooks["response"].append(newest_instead)
    return service


class _Asking:
    """Asks one after the other, until it is clear that nobody answers."""

    def __init__(self, service: VulnerabilityService) -> None:
        self._service = service
        self.failures: list[str] = []

    def about(self, dependency: ResolvedDependency) -> list[VulnerabilityResult] | None:
        """Give what is known of a dependency; None when nothing is."""
        if len(self.failures) >= _GIVES_UP_AFTER:
            return None
        try:
            answered, vulnerabilities = self._service.query(dependency)
        except (ServiceError, requests.RequestException) as error:
            self.failures.append(f"{type(error).__name__}: {error}".partition("\n")[0][:200])
            return None
        return None if answered.is_skipped() else vulnerabilities


def audit(dependencies: list[ResolvedDependency], service: VulnerabilityService, accepted: Exceptions) -> Verdict:
    """Ask about every dependency; what cannot be asked is no problem, but is told. It hides nothing of the others."""
    asking, verdict = _Asking(service), Verdict()
    with ThreadPoolExecutor(_AT_ONCE) as at_once:
        answers = list(at_once.map(asking.about, dependencies))
    verdict.unreachable = next(iter(asking.failures), None)
    for asked, vulnerabilities in zip(dependencies, answers, strict=True):
        if vulnerabilities is None:
            verdict.unknown.append(asked.name)
            continue
        verdict.checked += 1
        verdict.problems += [
            _described(asked, vulnerability)
            for vulnerability in vulnerabilities
            if not accepted.covers(asked.name, vulnerability.id, *vulnerability.aliases)
        ]
    known = {one.name for one in dependencies} - set(verdict.unknown)
    gone = {one.name for one in dependencies}
    stale = [
        one
        for one in accepted.accepted
        if one not in accepted.met and (one.subject in known or one.subject not in gone)
    ]
    verdict.problems += Exceptions(stale).stale()
    return verdict


def _described(package: ResolvedDependency, vulnerability: Any) -> str:  # noqa: ANN401  (pip-audit has no types)
    fixed = ", ".join(map(str, vulnerability.fix_versions)) or "no release yet"
    names = ", ".join(sorted({vulnerability.id, *vulnerability.aliases}))
    return f"{package.name} {package.version}: {names}, repaired in {fixed}: {vulnerability.description[:200]}"
