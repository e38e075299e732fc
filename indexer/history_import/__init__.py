"""Import of an older history, from log files or an export, beside live notifications."""
