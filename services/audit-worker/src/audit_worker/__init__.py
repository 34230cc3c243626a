"""audit-worker: keeps the tamper-evident audit trail of every task."""
