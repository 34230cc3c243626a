"""task-api: authenticated CRUD over tasks; every change is an event."""
