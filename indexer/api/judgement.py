"""Judges a push or deletion of a manifest by GitLab's protected and immutable tags, before the proxy passes it.

The registry's own tokens say which tags they except (``inventory.tag_protection``); the registry does not read this.
What is not certain is refused: the proxy then answers 503, and the client tries again.

- An immutable tag may be pushed once. One push of it at a time is let through, as long as any other may still be under
  way, and only after the registry was asked about this tag (by the reconciler) and does not have it.
- The deletion of a digest is the deletion of all tags that point to it, or to an index that leads to it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

import structlog
from aiohttp import web
from prometheus_client import Counter

from indexer.api import registry_errors
from indexer.api.auth import Access, Authenticator, Principal, Unauthorized, pull_of
from indexer.api.barrier import PATIENT_SECONDS, Barrier
from indexer.api.tokens import LEEWAY_SECONDS
from indexer.common.errors import CallerError, StoreError
from indexer.inventory.tag_protection import (
    Denial,
    Protection,
    TagPatterns,
    judge_deletion,
    judge_push,
    may_be_pushed_once,
)
from indexer.inventory.write_notices import WRITE_ID
from indexer.oci.digest import Digest, is_digest
from indexer.oci.reference import RepositoryName, TagName, is_tag_name
from indexer.store import write_notices
from indexer.store.pool import Connection, connection, transaction
from indexer.store.write_notices import Kept, Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REFUSAL_HEADER: Final = "X-Indexer-Refusal"
"""The body of a refusal again: nginx gives the client no body of a subrequest."""
RETRY_AFTER_SECONDS: Final = 2
LATEST_BEGIN_SECONDS: Final = 3600.0
"""A push waits for its body in front of the registry, and the registry wants a valid token after that. So it begins
before its token expires; but with a token that is good for longer than this, it is expected to begin within this."""
USUAL_BEGIN_SECONDS: Final = 360.0
"""A notice lasts for 16 minutes: so long until the write begins, and ten minutes until it was answered (by the proxy's
limit)."""

_ORIGIN: Final = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
ACTIONS: Final = {"PUT": "push", "DELETE": "delete"}

JUDGEMENTS = Counter(
    "indexer_tag_judgements_total",
    "Pushes and deletions of manifests, by what protected and immutable tags made of them.",
    ["outcome"],
)
_OUTCOMES = ("passed", *Protection, "unauthorized", "undecided")
for _outcome in _OUTCOMES:
    JUDGEMENTS.labels(_outcome)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What a request would write; ``reference``: a tag or digest. ``more``: tags that its query names, too.

    ``address``: a hash of the client's.
    """

    number: str
    method: str
    repository: RepositoryName
    reference: str
    more: tuple[TagName, ...] = ()
    address: bytes = b""

    @property
    def access(self) -> tuple[Access, ...]:
        """What the registry requires for it."""
        granted = Access("repository", self.repository, ACTIONS[self.method])
        return (pull_of(self.repository), granted) if self.method == "PUT" else (granted,)

    @property
    def digest(self) -> Digest | None:
        """The digest, if the reference is one."""
        return Digest(self.reference) if is_digest(self.reference) else None

    @property
    def tags(self) -> tuple[TagName, ...]:
        """The tags that it names."""
        own = () if self.digest is not None else (TagName(self.reference),)
        return own + self.more


class Undecided(Exception):  # noqa: N818 - a state
    """Whether the write may pass is not certain now; the text says why."""


class Denied(Exception):  # noqa: N818 - an outcome
    """The write may not pass."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.text)
        self.denial = denial


def path_of(uri: str) -> str:
    """Return the path of a request's target as the registry reads it: unescaped once, without scheme and host."""
    return unquote(_ORIGIN.sub("", uri).partition("?")[0])


def is_redirected(uri: str) -> bool:
    """Tell whether the registry redirects a path to a clean one, and so writes nothing (Go's ``path.Clean``)."""
    parts = path_of(uri).split("/")[1:]
    return any(part in (".", "..") for part in parts) or "" in parts[:-1]


def tags_in_query(uri: str) -> tuple[TagName, ...]:
    """Return the tags that a query names: a newer registry may tag a manifest that is pushed by its digest so."""
    query = parse_qsl(uri.partition("?")[2], keep_blank_values=True)
    return tuple(TagName(value) for name, value in query if name == "tag" and is_tag_name(value))


class Judge:
    """Decides whether a write may pass, and notes one that may."""

    def __init__(self, barrier: Barrier, authenticator: Authenticator | None) -> None:
        self._barrier = barrier
        self._authenticator = authenticator

    async def authenticate(self, authorization: Sequence[str], *, access: Sequence[Access]) -> Principal:
        """Return who writes; raise ``Unauthorized``, or ``Undecided`` where we do not know the registry's tokens."""
        if self._authenticator is None:
            raise Undecided("INDEXER_AUTH_… is not set, so tokens cannot be judged")
        return await self._authenticator.authenticate(authorization, access=access)

    async def decide(self, write: Write, principal: Principal) -> None:
        """Note a write that may pass; raise ``Denied`` or ``Undecided`` for any other.

        Raises ``StoreError`` where the database does not answer.
        """
        if not WRITE_ID.match(write.number):
            raise Undecided("X-Request-Id names no request")
        patterns = principal.patterns_of(write.repository)
        granted = all(principal.may(access) for access in write.access)
        if write.method == "PUT":
            await self._decide_push(write, patterns, granted=granted, expires=principal.expires)
        elif write.digest is None:
            _refuse(judge_deletion(patterns, write.tags))
            if granted:
                await self.note(write)
        elif granted and patterns.restricts_deletion:
            await self._decide_deletion(write, write.digest, patterns)
        elif granted:
            await self.note(write)

    async def _decide_push(
        self, write: Write, patterns: TagPatterns, *, granted: bool, expires: int | None
    ) -> None:
        for tag in write.tags:
            _refuse(judge_push(patterns, tag, exists=False))
        for tag in write.more:  # no registry here knows them: nobody needs them to be pushed once
            _refuse(judge_push(patterns, tag, exists=True))
        if not granted:
            return
        if write.digest is not None or not may_be_pushed_once(patterns, TagName(write.reference)):
            await self.note(write)
            return
        tag = TagName(write.reference)
        await self._hold(write, tag, within=begins_within(expires, now=time.time()))
        async with self._dropped_unless_passed(write):
            question = await self._barrier.verifies(number=write.number, repository=write.repository, tag=tag)
            if question is None:
                raise Undecided(f"the registry was not asked in time whether it has the immutable tag {tag}")
            async with connection(self._barrier.pool) as held:
                exists = await write_notices.has_tag(held, repository=write.repository, tag=tag)
                _refuse(judge_push(patterns, tag, exists=exists))
                if not await write_notices.is_checked(
                    held, number=write.number, repository=write.repository, tag=tag, question=question
                ):
                    raise Undecided(f"news of the immutable tag {tag} came in just now")

    async def _hold(self, write: Write, tag: TagName, *, within: float) -> None:
        """Note the only push of a tag; wait a little for another one to end, and raise ``Undecided`` if it does not."""
        deadline = time.monotonic() + PATIENT_SECONDS
        while True:
            async with connection(self._barrier.pool) as held:
                if await write_notices.put_push_once(
                    held,
                    number=write.number,
                    repository=write.repository,
                    tag=tag,
                    within=within,
                    address=write.address,
                ):
                    return
            if time.monotonic() >= deadline:
                raise Undecided(f"another push of the immutable tag {tag} may be under way")
            await self._barrier.pause()

    @asynccontextmanager
    async def _dropped_unless_passed(self, write: Write) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            async with connection(self._barrier.pool) as held:
                await write_notices.drop_notice(held, number=write.number, repository=write.repository)
            raise

    async def _decide_deletion(self, write: Write, digest: Digest, patterns: TagPatterns) -> None:
        async def read() -> Kept:
            async with connection(self._barrier.pool) as held:
                return await write_notices.find_kept(held, repository=write.repository, digest=digest)

        kept = await self._barrier.answer(Scope(repository=write.repository), read, patient=True)
        if kept is None:
            raise Undecided("a write to the repository is under way")
        _judge_kept(patterns, kept)
        async with transaction(self._barrier.pool) as held:
            # Once more, now that no push of an immutable tag can pass meanwhile.
            await write_notices.lock_judgements(held, write.repository)
            _judge_kept(
                patterns,
                await write_notices.find_kept(held, repository=write.repository, digest=digest),
            )
            await self._put(held, write)

    async def note(self, write: Write) -> None:
        """Note a write that may pass; raise ``StoreError`` where that fails."""
        async with connection(self._barrier.pool) as held:
            await self._put(held, write)

    @staticmethod
    async def _put(held: Connection, write: Write) -> None:
        await write_notices.put_notice(
            held,
            number=write.number,
            repository=write.repository,
            reference=write.reference,
            method=write.method,
            address=write.address,
        )

    def respond(self, error: Exception, write: Write | None) -> web.Response:
        """Return the answer to a write that may not pass; any other error is raised again."""
        match error:
            case Denied():
                denial = error.denial
                JUDGEMENTS.labels(denial.reason).inc()
                log.info("tag_write_denied", write=write, reason=denial.reason.value, tag=denial.tag)
                detail = {"tag": denial.tag, "reason": denial.reason.value}
                return _refusal(HTTPStatus.FORBIDDEN, "DENIED", denial.text, detail)
            case Unauthorized():
                JUDGEMENTS.labels("unauthorized").inc()
                assert self._authenticator is not None  # noqa: S101 - it raised this
                challenge = self._authenticator.challenge.header(error.access, error.error)
                body = registry_errors.unauthorized_body(error.access)
                return _respond(HTTPStatus.UNAUTHORIZED, body, {"WWW-Authenticate": challenge})
            case CallerError():
                JUDGEMENTS.labels("unauthorized").inc()
                return _refusal(HTTPStatus.FORBIDDEN, "DENIED", str(error), None)
            case Undecided() | StoreError():
                JUDGEMENTS.labels("undecided").inc()
                log.warning("tag_write_undecided", write=write, error=str(error))
                text = str(error) if isinstance(error, Undecided) else "service unavailable"
                return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", text, None)
            case _:
                raise error


def passed() -> web.Response:
    """Return the answer that lets a write pass."""
    JUDGEMENTS.labels("passed").inc()
    return web.Response(status=HTTPStatus.NO_CONTENT)


def no_write(why: str) -> web.Response:
    """Return the answer to a request of which we cannot tell what the registry would write, or when."""
    return _refusal(HTTPStatus.FORBIDDEN, "DENIED", why, None)


def _refuse(denial: Denial | None) -> None:
    if denial is not None:
        raise Denied(denial)


def _judge_kept(patterns: TagPatterns, kept: Kept) -> None:
    """Judge the deletion of a digest by the tags that need it."""
    _refuse(judge_deletion(patterns, kept.tags))
    _refuse(judge_deletion(_without_immutable(patterns), kept.by_dummy))
    arriving = judge_deletion(patterns, kept.arriving)
    if arriving is not None:
        raise Undecided(f"a push of the tag {arriving.tag} may be under way")
    if not kept.complete:
        raise Undecided("the registry was not compared with the inventory yet")


def begins_within(expires: int | None, *, now: float) -> float:
    """Return for how many seconds the notice of a push must last longer than usual; ``expires``: of its token."""
    left = LATEST_BEGIN_SECONDS if expires is None else expires + LEEWAY_SECONDS - now
    return max(0.0, min(left, LATEST_BEGIN_SECONDS) - USUAL_BEGIN_SECONDS)


def _without_immutable(patterns: TagPatterns) -> TagPatterns:
    """Return the patterns for tags that GitLab deletes: it does not choose immutable ones, they were so afterwards."""
    return TagPatterns(push=patterns.push, delete=patterns.delete, unreadable=patterns.unreadable)


def _refusal(status: HTTPStatus, code: str, message: str, detail: Any) -> web.Response:
    more = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return _respond(status, registry_errors.body(code, message, detail), more)


def _respond(status: HTTPStatus, body: Any, more: dict[str, str]) -> web.Response:
    text = json.dumps(body, separators=(",", ":"))  # ASCII, in one line: a header can have it
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", REFUSAL_HEADER: text, **more}
    return web.Response(status=status, body=text.encode(), headers=headers)
