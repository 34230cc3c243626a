"""Tasks out to a file and in from one: JSON, CSV, and Todoist's CSV."""
