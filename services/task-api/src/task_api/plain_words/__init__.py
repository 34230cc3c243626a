"""Days, times and recurrences in plain English: the one grammar of quick add and of imports."""
