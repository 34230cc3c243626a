"""Routes that may be asked less often than others: one line each, see docs/api/edges.md."""

from typing import Final

from chassis.rate_limits.budgets import BULK, CREDENTIAL, SECRET_ADDRESS, TRANSFER, RouteBudgets

ROUTE_BUDGETS: Final[RouteBudgets] = {
    ("POST", "/tasks/bulk"): BULK,
    ("GET", "/tasks/export"): TRANSFER,
    ("POST", "/tasks/import"): TRANSFER,
    ("POST", "/calendar-feeds"): CREDENTIAL,
    ("POST", "/calendar-feeds/{feed_id}/rotate"): CREDENTIAL,
    ("GET", "/users/me/export"): TRANSFER,
    ("DELETE", "/users/me"): CREDENTIAL,
    ("POST", "/engagements/{engagement_id}/invitations"): CREDENTIAL,
    ("POST", "/engagements/invitations/accept"): CREDENTIAL,
    ("POST", "/api-keys"): CREDENTIAL,
    ("POST", "/api-keys/{key_id}/rotate"): CREDENTIAL,
    ("GET", "/calendars/{token}.ics"): SECRET_ADDRESS,
}
