"""kubectl for programs: what it answered, or why not."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devstack.failures import ProvisionError

_TIMEOUT: Final = 120.0

# As it comes out of JSON: whatever its kind says, at any depth.
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What one call came to.

    Attributes:
        ok: Whether it succeeded.
        output: What it printed.
        errors: What it said on standard error: refusals, warnings.
    """

    ok: bool
    output: str
    errors: str


@dataclass(frozen=True)
class Kubectl:
    """One cluster, as its administrator.

    Attributes:
        program: kubectl itself.
        kubeconfig: Which cluster, and who we are there; None for what the user has.
        context: Of the kubeconfig; None for its current one.
        cache: Where it keeps what it found out about the API.
    """

    program: Path
    kubeconfig: Path | None
    cache: Path
    context: str | None = None

    def command(self, *arguments: str) -> list[str]:
        """The command line of a call."""
        chosen = [] if self.context is None else ["--context", self.context]
        return [str(self.program), *chosen, *arguments]

    def environment(self) -> dict[str, str]:
        """The environment of a call; never by way of a proxy: the cluster is on this machine or given by its user."""
        own = {} if self.kubeconfig is None else {"KUBECONFIG": str(self.kubeconfig), "NO_PROXY": "127.0.0.1"}
        return {**os.environ, **own, "KUBECACHEDIR": str(self.cache)}

    def ask(self, *arguments: str, given: str | None = None, timeout: float = _TIMEOUT) -> Answer:
        """Call it, with something on standard input where that is wanted."""
        try:
            done = subprocess.run(  # noqa: S603
                self.command(*arguments),
                env=self.environment(),
                input=given if given is not None else "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Answer(ok=False, output="", errors=f"no answer within {timeout:.0f} s")
        return Answer(done.returncode == 0, done.stdout, done.stderr)

    def run(self, *arguments: str, given: str | None = None, timeout: float = _TIMEOUT) -> str:
        """Call it, and take nothing but success.

        Raises:
            ProvisionError: It failed; says with which words.
        """
        answer = self.ask(*arguments, given=given, timeout=timeout)
        if not answer.ok:
            what = f"kubectl {' '.join(arguments[:4])} failed"
            raise ProvisionError(what, answer.errors.strip()[-2000:] or "it did not say why", "Look at the cluster")
        return answer.output

    def get(self, *arguments: str) -> Manifest:
        """What `kubectl get … -o json` gives.

        Raises:
            ProvisionError: There is no such thing.
        """
        found: Manifest = json.loads(self.run("get", *arguments, "-o", "json"))
        return found

    def apply(self, manifests: Sequence[Manifest], *arguments: str) -> str:
        """Apply manifests by the server's own rules, refusing fields that it does not know.

        Raises:
            ProvisionError: The server refused one.
        """
        return self.run(
            "apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", *arguments,
            given=as_stream(manifests),
        )  # fmt: skip


def as_stream(manifests: Sequence[Manifest]) -> str:
    """Several manifests as kubectl reads them; not as a List, whose items it would check by itself, and loosely."""
    return "\n---\n".join(json.dumps(one) for one in manifests)
