"""``indexer up``: an embedded PostgreSQL, and the supervisor of our own processes on one machine.

What those processes do is elsewhere. In production systemd or an orchestrator starts them, and nothing here runs.
"""
