"""`/api/v1/status`: each file one part of the answer; `answer` puts them together."""

from indexer.api.v1.status.document import Status, get_status

__all__ = ["Status", "get_status"]
