"""The laptop runtime: an embedded PostgreSQL, and the supervisor behind ``indexer up``.

Here lives what starts, watches and stops *processes* of our own on one machine. What those processes do
lives elsewhere; in production they are started by systemd or an orchestrator and nothing here runs.
"""
