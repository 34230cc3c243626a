"""notifier: tells people and systems what happened to their tasks."""
