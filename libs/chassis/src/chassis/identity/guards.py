"""How a route says who may call it: `TaskWrite = Annotated[Principal, requires(Permission.TASKS_WRITE)]`.

`requires` is the only way to guard a route, so a test can walk all routes and read which permission each needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Protocol

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPBase
from starlette.routing import BaseRoute

from chassis.errors import BEARER, ForbiddenError, UnauthenticatedError
from chassis.identity.permissions import NEVER_IN_A_KEY, Permission, roles_with
from chassis.identity.principal import Principal
from chassis.identity.subjects import is_subject
from chassis.logging import get_logger
from chassis.rate_limits.admission import admit

_CALLER: Final = "taskwire.caller"
_logger = get_logger(__name__)
# These declare the schemes in the OpenAPI document; the header itself is read by the authenticators.
_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="JWT of the identity provider, or an API key")
_signature = HTTPBase(
    scheme="taskwire-hmac-sha256",
    scheme_name="ProxySignature",
    auto_error=False,
    description="Signature of a trusted proxy, which says for whom it asks: docs/identity.md. "
    "Taken where the service has keys of proxies.",
)


class InvalidCredentialError(Exception):
    """The credential does not hold; the message is safe to show.

    Attributes:
        scheme: What to authenticate with instead.
        error: What is wrong, for programs.
    """

    scheme: ClassVar[str] = "Bearer"
    error: ClassVar[str] = "invalid_token"


class Authenticator(Protocol):
    """One kind of credential that a request can carry."""

    def recognizes(self, scheme: str, credential: str) -> bool:
        """Tell whether a credential is of this kind, by its looks alone.

        Args:
            scheme: Of the `Authorization` header, in lower case.
            credential: What follows the scheme.
        """
        ...

    async def authenticate(self, request: Request, credential: str) -> Principal:
        """Verify a credential that was recognized.

        Raises:
            InvalidCredentialError: It does not hold.
            UnavailableError: Whether it holds cannot be found out right now.
        """
        ...


class AccountGate(Protocol):
    """Who has the last word on a verified caller, such as a service that knows who was erased."""

    async def admit(self, user: Principal) -> None:
        """Let a caller pass.

        Raises:
            ApiError: Not this one.
        """
        ...


class PermissionDeniedError(ForbiddenError):
    """The credential does not give the permission that this needs."""

    code = "permission_denied"


async def get_current_user(
    request: Request, _: Annotated[object, Depends(_bearer)], __: Annotated[object, Depends(_signature)]
) -> Principal:
    """Give a route its verified caller.

    Raises:
        UnauthenticatedError: No credential, or one that does not hold.
        RateLimitedError: The caller has used up a budget.
    """
    return await caller_of(request)


async def caller_of(request: Request) -> Principal:
    """Give the verified caller of a request, who is verified and counted once, however often that is asked.

    Raises:
        UnauthenticatedError: No credential, or one that does not hold.
        RateLimitedError: The caller has used up a budget.
    """
    known: Principal | None = request.scope.get(_CALLER)
    if known is None:
        known = await _verified(request)
        await admit(request.scope, known.id)
        request.scope[_CALLER] = known
    return known


async def _verified(request: Request) -> Principal:
    lines = request.headers.getlist("Authorization")
    if len(lines) > 1:  # whoever stands before us may have read the other one
        raise UnauthenticatedError("Send one `Authorization` header.")
    scheme, _, credential = "".join(lines).partition(" ")
    scheme, credential = scheme.lower(), credential.strip(" ")
    authenticators: Sequence[Authenticator] = request.app.state.authenticators
    for authenticator in authenticators if credential else ():
        if authenticator.recognizes(scheme, credential):
            try:
                principal = await authenticator.authenticate(request, credential)
            except InvalidCredentialError as error:
                _logger.info("credential refused", kind=type(authenticator).__name__, reason=str(error))
                challenge = f'{error.scheme} error="{error.error}"'
                raise UnauthenticatedError(str(error), challenge=challenge) from error
            if not is_subject(principal.id):
                raise UnauthenticatedError("The credential is of nobody who can be a user.")
            return principal
    raise UnauthenticatedError("Send a bearer token: `Authorization: Bearer …`.", challenge=BEARER)


CurrentUser = Annotated[Principal, Depends(get_current_user)]


class Guard:
    """Lets a caller pass whose credential gives a permission."""

    def __init__(self, permission: Permission, refusal: type[ForbiddenError], *, also_erased: bool) -> None:
        self.permission, self.refusal, self.also_erased = permission, refusal, also_erased

    async def __call__(self, request: Request, user: CurrentUser) -> Principal:
        """Give a route its caller.

        Raises:
            ForbiddenError: Of the guard's own kind: the credential does not give the permission.
            ApiError: What the service's own `AccountGate` raises.
        """
        gate: AccountGate | None = request.app.state.account_gate
        if gate is not None and not self.also_erased:
            await gate.admit(user)
        if not user.may(self.permission):
            raise self.refusal(self._missing(user))
        return user

    def _missing(self, user: Principal) -> str:
        if not user.could(self.permission):
            roles = " or ".join(roles_with(self.permission))
            return f"This needs the permission {self.permission}, which the role {roles} has."
        if self.permission in NEVER_IN_A_KEY:
            return f"This needs the permission {self.permission}, which no API key has; sign in instead."
        return f"This needs the scope {self.permission}, which the API key does not have."


def requires(
    permission: Permission, *, refusal: type[ForbiddenError] = PermissionDeniedError, also_erased: bool = False
) -> Any:  # noqa: ANN401
    """Make the guard of a route, for `Annotated[Principal, …]`.

    Args:
        permission: What the caller's credential must give.
        refusal: The error for those whose does not.
        also_erased: Whether those pass, too, whose account is erased or being erased.
    """
    return Depends(Guard(permission, refusal, also_erased=also_erased))


@dataclass(frozen=True)
class GuardedOperation:
    """A method of a path, and who may call it.

    Attributes:
        path: With its parameters as `{name}`.
        methods: In upper case, sorted.
        operation_id: Stable name, also in the OpenAPI document.
        guards: Empty: anybody may.
    """

    path: str
    methods: tuple[str, ...]
    operation_id: str
    guards: tuple[Guard, ...]


def operations_of(routes: Sequence[BaseRoute]) -> Iterator[GuardedOperation]:
    """Give every operation below some routes, with its guards: its own and those of what it depends on."""
    for context in iter_route_contexts(routes):
        dependant = getattr(context, "dependant", None)
        guards = guards_of(dependant) if isinstance(dependant, Dependant) else ()
        operation_id = str(getattr(context, "unique_id", context.name))
        yield GuardedOperation(str(context.path), tuple(sorted(context.methods or ())), operation_id, guards)


def guards_of(dependant: Dependant) -> tuple[Guard, ...]:
    """Give the guards of a route: its own and those of what it depends on."""
    return tuple(dict.fromkeys(call for call in _calls(dependant) if isinstance(call, Guard)))


def _calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for dependency in dependant.dependencies:
        yield from _calls(dependency)
