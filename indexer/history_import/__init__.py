"""An older history, from log files or another export, taken in beside live notifications."""
