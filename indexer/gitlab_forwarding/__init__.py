"""Notifications passed on to GitLab, from a queue of their own."""
