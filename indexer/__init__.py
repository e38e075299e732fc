"""The indexer: receives, keeps, answers, delivers.

It receives a registry's notifications, keeps the inventory, the history and the audit log in PostgreSQL,
and serves them over HTTP. It never calls the registry; that is the reconciler's work.
"""


def __getattr__(name: str) -> str:
    """Look up ``__version__`` when asked for: reading the metadata of the installation takes longer than a verb."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("registry-indexer")
    except PackageNotFoundError:  # running from a source tree that was never installed
        return "0+unknown"
