"""Lets one request through the budgets: its address before anybody looks at its credentials, then its principal."""

import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from limits import RateLimitItem, RateLimitItemPerMinute
from starlette.routing import compile_path
from starlette.types import Scope

from chassis.client_address import client_of
from chassis.metrics import route_of
from chassis.paths import API_PREFIX
from chassis.rate_limits.answers import Counted, RateLimitedError
from chassis.rate_limits.budgets import ADDRESS, FAILED_AUTHENTICATION, USER, Budget, Key, RouteBudgets
from chassis.rate_limits.counters import Counters, LocalCounters

_SCOPE_KEY: Final = "taskwire.admission"


class RateLimits:
    """The budgets of a service, in numbers, and who counts them.

    Attributes:
        counters: Who counts principals and what is secret.
        addresses: Who counts addresses as such. Always this replica: it is this replica that they could flood.
    """

    def __init__(self, counters: Counters, *, of: Mapping[Budget, int]) -> None:
        """Put numbers to the budgets.

        Args:
            counters: Who counts.
            of: Requests in a minute for `USER`, `ADDRESS` and `FAILED_AUTHENTICATION`.
        """
        self.counters = counters
        self.addresses: Counters = LocalCounters()
        self._items: dict[Budget, RateLimitItem] = {budget: _item(budget, quota) for budget, quota in of.items()}
        self._of_principals: dict[tuple[str, str], Budget] = {}
        self._of_addresses: list[tuple[str, re.Pattern[str], Budget]] = []

    def give(self, routes: RouteBudgets) -> None:
        """Give routes budgets of their own."""
        for (method, template), budget in routes.items():
            whole = self._items[USER if budget.key is Key.PRINCIPAL else ADDRESS].amount
            self._items[budget] = _item(budget, max(1, whole // budget.one_in))
            if budget.key is Key.PRINCIPAL:
                self._of_principals[method, API_PREFIX + template] = budget
            else:
                self._of_addresses.append((method, compile_path(API_PREFIX + template)[0], budget))

    def of_principal(self, scope: Scope) -> Budget | None:
        """Give the own budget of a request's route, which is known by now."""
        return self._of_principals.get((_method(scope), route_of(scope)))

    def of_address(self, scope: Scope) -> Budget | None:
        """Give the own budget of a request's path; its route is not known yet."""
        method, path = _method(scope), scope["path"]
        for wanted, pattern, budget in self._of_addresses:
            if method == wanted and pattern.match(path):
                return budget
        return None

    async def take(self, budget: Budget, key: str) -> bool:
        """Count one request, unless that would be one too many."""
        return await self._who_counts(budget).take(self._items[budget], key)

    async def look(self, budget: Budget, key: str) -> Counted:
        """Give how a budget stands."""
        window = await self._who_counts(budget).look(self._items[budget], key)
        return Counted(budget, window.quota, window.remaining, window.resets_after)

    async def spent(self, budget: Budget, key: str) -> Counted | None:
        """Give how a budget stands that is used up, as far as this replica knows; None where it is not."""
        item = self._items[budget]
        seconds = await self._who_counts(budget).spent_for(item, key)
        return Counted(budget, item.amount, 0, seconds) if seconds else None

    def _who_counts(self, budget: Budget) -> Counters:
        return self.addresses if budget is ADDRESS else self.counters


def _item(budget: Budget, quota: int) -> RateLimitItem:
    return RateLimitItemPerMinute(quota, namespace=budget.name)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return "GET" if method == "HEAD" else method


def _digest(identity: str) -> str:
    """Make a key of bounded length that shows nobody's name or address to who can read the store."""
    return blake2b(identity.encode(errors="replace"), digest_size=16).hexdigest()


class Admission:
    """One request on its way through the budgets, and what they said."""

    def __init__(self, limits: RateLimits, scope: Scope) -> None:
        self._limits, self._scope = limits, scope
        self._address = _digest(client_of(scope))
        self._own = limits.of_address(scope)
        self.has_secret_path = self._own is not None
        self._taken: list[tuple[Budget, str]] = []
        self._refusal: Counted | None = None
        scope[_SCOPE_KEY] = self

    async def before_authentication(self) -> None:
        """Count for the address.

        Raises:
            RateLimitedError: One of its budgets is used up.
        """
        failed = await self._limits.spent(FAILED_AUTHENTICATION, self._address)
        if failed is not None:
            raise self._refused(failed)
        await self._take(ADDRESS, self._address)
        if self._own is not None:
            await self._take(self._own, self._address)

    async def of_principal(self, principal_id: str) -> None:
        """Count for the principal; its answer then says how these budgets stand, not those of the address.

        Raises:
            RateLimitedError: One of its budgets is used up.
        """
        key = _digest(principal_id)
        self._taken = []
        await self._take(USER, key)
        own = self._limits.of_principal(self._scope)
        if own is not None:
            await self._take(own, key)

    async def authentication_failed(self) -> None:
        """Count a credential that did not hold."""
        await self._limits.take(FAILED_AUTHENTICATION, self._address)

    async def counted(self) -> list[Counted]:
        """Give how the budgets stand that this request counts for."""
        if self._refusal is not None:
            return [self._refusal]
        return [await self._limits.look(budget, key) for budget, key in self._taken]

    async def _take(self, budget: Budget, key: str) -> None:
        if not await self._limits.take(budget, key):
            raise self._refused(await self._limits.spent(budget, key) or await self._limits.look(budget, key))
        self._taken.append((budget, key))

    def _refused(self, counted: Counted) -> RateLimitedError:
        self._refusal = replace(counted, remaining=0)  # a look may come after a request less
        return RateLimitedError(self._refusal)


async def admit(scope: Scope, principal_id: str) -> None:
    """Count a request for its principal; call it once it is known who that is, and before anything is done.

    Raises:
        RateLimitedError: A budget of the principal, or of the route for this principal, is used up.
    """
    admission: Admission | None = scope.get(_SCOPE_KEY)
    if admission is not None:
        await admission.of_principal(principal_id)
