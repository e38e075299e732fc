"""Feeds: delivery of the audit log to other systems."""
