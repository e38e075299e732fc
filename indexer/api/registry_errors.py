"""The body of a refusal as registries write it (OCI distribution spec 1.1, "Error Codes"), for both doors that do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from indexer.api.auth import Access


def body(code: str, message: str, detail: Any) -> dict[str, Any]:
    """Return the body of a refusal."""
    return {"errors": [{"code": code, "message": message, "detail": detail}]}


def unauthorized_body(access: Sequence[Access]) -> dict[str, Any]:
    """Return the body of a 401: the access it takes, as Distribution writes it."""
    detail = [{"Type": each.type, "Class": "", "Name": each.name, "Action": each.action} for each in access]
    return body("UNAUTHORIZED", "authentication required", detail or None)
