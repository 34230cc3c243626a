"""Names on the broker: the one place where publisher, consumers and operators agree on them."""

from typing import Final

PUBSUB_NAME: Final = "pubsub"
"""Name of the Dapr pub/sub component (`components/pubsub.yaml`)."""

TASKS_TOPIC: Final = "tasks"
"""The one topic of all task events: order per task holds across types because they share it."""

TASKS_PARTITIONS: Final = 6
"""Partitions of `tasks`; the upper bound of useful replicas of one consumer."""

AUDIT_DEAD_LETTER_TOPIC: Final = "audit-worker.dead-letters"
NOTIFIER_DEAD_LETTER_TOPIC: Final = "notifier.dead-letters"

ACCOUNTS_TOPIC: Final = "accounts"
ACCOUNT_CONFIRMATIONS_TOPIC: Final = "account-confirmations"
"""What happens to accounts. A topic of its own: consumers of `tasks` 1.x refuse types that they do not know."""

ACCOUNTS_PARTITIONS: Final = 3
"""Partitions of `accounts`: it has an event now and then."""
