"""One line of plain words becomes a task: what is understood is taken out of it, the rest is the title."""
