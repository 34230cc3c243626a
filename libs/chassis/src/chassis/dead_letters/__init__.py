"""Dead letters: what a consumer could not process, kept with its reason until a person redrives or discards it."""
