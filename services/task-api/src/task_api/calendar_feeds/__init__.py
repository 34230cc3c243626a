"""A person's tasks in a calendar application: a feed in iCalendar, read with a secret address that can be revoked."""
