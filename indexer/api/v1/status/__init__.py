"""``/api/v1/status``: each file has one part of the response; ``document`` puts them together."""

from indexer.api.v1.status.document import Status, get_status

__all__ = ["Status", "get_status"]
