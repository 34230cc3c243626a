"""Network policies as the API defines them: may a pod speak to another, or to an address, at a port?

A connection passes when what selects its source lets it out and what selects its target lets it in; whom no policy
selects for a direction, that direction is open. No cluster of ours enforces them, so this is what looks at them.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.deploy.objects import Labels, Manifests, Metadata, Selector, Shape

HERE: Final = "taskwire"


class _Port(Shape):
    protocol: str = "TCP"
    port: int | None = None


class _Block(Shape):
    cidr: str
    except_: Sequence[str] = ()

    model_config = Shape.model_config | {"alias_generator": lambda name: name.rstrip("_")}


class _Peer(Shape):
    pod_selector: Selector | None = None
    namespace_selector: Selector | None = None
    ip_block: _Block | None = None


class _Egress(Shape):
    to: Sequence[_Peer] = ()
    ports: Sequence[_Port] = ()


class _Ingress(Shape):
    model_config = Shape.model_config | {"alias_generator": lambda name: name.rstrip("_")}

    from_: Sequence[_Peer] = ()
    ports: Sequence[_Port] = ()


class _PolicySpec(Shape):
    pod_selector: Selector
    policy_types: Sequence[str]
    egress: Sequence[_Egress] = ()
    ingress: Sequence[_Ingress] = ()


class Policy(Shape):
    metadata: Metadata
    spec: _PolicySpec


@dataclass(frozen=True)
class End:
    """A pod by its labels, or an address outside the cluster."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = HERE
    address: str = ""

    @property
    def namespace_labels(self) -> Labels:
        return {"kubernetes.io/metadata.name": self.namespace}


@dataclass(frozen=True)
class Network:
    """The policies of an overlay."""

    policies: Sequence[Policy]

    @classmethod
    def of(cls, manifests: Manifests) -> "Network":
        return cls(manifests.of("NetworkPolicy", Policy))

    def lets(self, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
        """Whether the connection passes."""
        return self._out(source, target, port, protocol) and self._in(source, target, port, protocol)

    def _out(self, source: End, target: End, port: int, protocol: str) -> bool:
        mine = list(self._selecting(source, "Egress"))
        rules = [(rule.to, rule.ports) for policy in mine for rule in policy.spec.egress]
        return not mine or any(_meets(peers, ports, target, port, protocol) for peers, ports in rules)

    def _in(self, source: End, target: End, port: int, protocol: str) -> bool:
        mine = list(self._selecting(target, "Ingress"))
        rules = [(rule.from_, rule.ports) for policy in mine for rule in policy.spec.ingress]
        return not mine or any(_meets(peers, ports, source, port, protocol) for peers, ports in rules)

    def _selecting(self, end: End, direction: str) -> Iterator[Policy]:
        for policy in self.policies:
            namespace = policy.metadata.namespace or HERE
            chosen = not end.address and end.namespace == namespace and policy.spec.pod_selector.matches(end.labels)
            if chosen and direction in policy.spec.policy_types:
                yield policy


def _meets(peers: Sequence[_Peer], ports: Sequence[_Port], other: End, port: int, protocol: str) -> bool:
    if ports and not any(one.protocol == protocol and one.port in (None, port) for one in ports):
        return False
    return not peers or any(_is(peer, other) for peer in peers)


def _is(peer: _Peer, other: End) -> bool:
    if peer.ip_block is not None:
        return bool(other.address) and _contains(peer.ip_block, other.address)
    if other.address:
        return False
    if peer.namespace_selector is None:
        same = other.namespace == HERE
    else:
        same = peer.namespace_selector.matches(other.namespace_labels)
    return same and (peer.pod_selector is None or peer.pod_selector.matches(other.labels))


def _contains(block: _Block, address: str) -> bool:
    wanted = ipaddress.ip_address(address)
    return wanted in ipaddress.ip_network(block.cidr) and not any(
        wanted in ipaddress.ip_network(one) for one in block.except_
    )
