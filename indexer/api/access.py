"""The access that a path under ``/api/v1`` requires, for the challenge of a 401. The endpoints check the grants."""

from __future__ import annotations

from indexer.api.auth import AUDIT, CATALOG, Access, pull_of
from indexer.api.paths import read_path
from indexer.common.errors import CallerError

ROOT = "/api/v1"
REPOSITORIES = f"{ROOT}/repositories/"

_BY_PATH = {
    f"{ROOT}/repositories": (CATALOG,),
    f"{ROOT}/feed": (AUDIT,),
}
_AUDIT = f"{ROOT}/audit"


def access_of(raw_path: str) -> tuple[Access, ...]:
    """Return the access that an escaped path requires; none where grants only restrict what a list shows."""
    if raw_path == _AUDIT or raw_path.startswith(f"{_AUDIT}/"):
        return (AUDIT,)
    if not raw_path.startswith(REPOSITORIES):
        return _BY_PATH.get(raw_path, ())
    try:
        _, parameters = read_path(raw_path.removeprefix(REPOSITORIES))
    except CallerError:
        return ()
    return (pull_of(parameters["repository"]),)
