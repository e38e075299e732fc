"""How the event of a write is recognised: by the id that the proxy adds to the user agent of the request.

The proxy passes a PUT or DELETE of a manifest to the registry with `` indexer-write/<id>`` behind the client's user
agent. The registry's notification repeats it. A client may write such a suffix, too: it ends a notice only if a
notice with this id is open, and ids are random.
"""

from __future__ import annotations

import re
from typing import Final

WRITE_ID: Final = re.compile(r"[A-Za-z0-9-]{8,64}\Z")
_SUFFIX: Final = re.compile(r" ?indexer-write/([A-Za-z0-9-]{8,64})\Z")
_LONGEST_SUFFIX: Final = 80


def split_write(user_agent: str) -> tuple[str, str | None]:
    """Return the client's own user agent, and the id that the proxy added; None: it added none."""
    found = _SUFFIX.search(user_agent, max(0, len(user_agent) - _LONGEST_SUFFIX))
    return (user_agent, None) if found is None else (user_agent[: found.start()], found[1])
