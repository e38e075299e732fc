"""The indexer: is told, remembers, answers, tells.

It receives a registry's notifications, keeps the inventory, the history and the audit log in PostgreSQL,
and serves them over HTTP. It never calls the registry; that is the reconciler's work.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("registry-indexer")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"
