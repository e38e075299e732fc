"""Which tags a token may not push or delete: GitLab's protected and immutable tags.

GitLab writes them into the ``meta`` of an entry of ``access`` in its tokens, as regular expressions of RE2
(``Auth::ContainerRegistryAuthenticationService``):

- ``tag_deny_access_patterns``: ``{"push": […], "delete": […]}``, the tags that this user may not push or delete;
- ``tag_immutable_patterns``: ``[…]``, the tags that nobody may push again or delete, once they exist.

An expression may match anywhere in the name, as in GitLab's registry (``validateTagProtection``). One that cannot be
read protects every tag: a rule that is not understood must not be a rule that is not there.

Pure: who has a token's patterns judges by them, at once or later (``as_meta`` is what is stored).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import lru_cache
from typing import Any, Final

from indexer.common.expressions import compile_expression
from indexer.oci.reference import TagName

DENY: Final = "tag_deny_access_patterns"
IMMUTABLE: Final = "tag_immutable_patterns"


@unique
class Protection(StrEnum):
    """Why a tag may not be written. The values are labels of a metric."""

    PROTECTED = "protected"
    IMMUTABLE = "immutable"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """That a tag may not be written, and why."""

    tag: TagName
    reason: Protection

    @property
    def text(self) -> str:
        """What the client reads."""
        match self.reason:
            case Protection.PROTECTED:
                return f"tag {self.tag} is protected: your role does not allow this"
            case Protection.IMMUTABLE:
                return f"tag {self.tag} is immutable: it cannot be overwritten or deleted"
            case Protection.UNREADABLE:
                return f"tag {self.tag}: a tag protection rule in the token cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPatterns:
    """The patterns that a token has for one repository. ``unreadable``: it has some that cannot be read."""

    push: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    immutable: tuple[str, ...] = ()
    unreadable: bool = False

    def __bool__(self) -> bool:
        """Tell whether any tag may be denied."""
        return bool(self.push or self.delete or self.immutable or self.unreadable)

    def __or__(self, other: TagPatterns) -> TagPatterns:
        """Return the patterns of both: what one of them denies is denied."""
        return TagPatterns(
            push=_merged(self.push, other.push),
            delete=_merged(self.delete, other.delete),
            immutable=_merged(self.immutable, other.immutable),
            unreadable=self.unreadable or other.unreadable,
        )

    @property
    def restricts_deletion(self) -> bool:
        """Whether any tag may not be deleted."""
        return bool(self.delete or self.immutable or self.unreadable)

    def as_meta(self) -> dict[str, Any]:
        """Return them as GitLab writes them; :func:`read_patterns` reads them again."""
        if self.unreadable:
            return {IMMUTABLE: False}
        return {DENY: {"push": [*self.push], "delete": [*self.delete]}, IMMUTABLE: [*self.immutable]}


NONE: Final = TagPatterns()


def read_patterns(meta: object) -> TagPatterns:
    """Return the patterns in the ``meta`` of an entry of ``access``; never raises.

    Other issuers may have a ``meta`` of another form: without GitLab's keys it restricts nothing.
    """
    if not isinstance(meta, Mapping):
        return NONE
    try:
        denied = {} if meta.get(DENY) is None else meta[DENY]
        if not isinstance(denied, Mapping):
            return TagPatterns(unreadable=True)
        return TagPatterns(
            push=_texts(denied.get("push")),
            delete=_texts(denied.get("delete")),
            immutable=_texts(meta.get(IMMUTABLE)),
        )
    except ValueError:
        return TagPatterns(unreadable=True)


def judge_push(patterns: TagPatterns, tag: TagName, *, exists: bool) -> Denial | None:
    """Return why a push of a tag is denied; None: it is not. ``exists``: the tag is there before the push."""
    if patterns.unreadable:
        return Denial(tag=tag, reason=Protection.UNREADABLE)
    denied = _judge(patterns.push, tag, Protection.PROTECTED)
    if denied is None and exists:
        denied = _judge(patterns.immutable, tag, Protection.IMMUTABLE)
    return denied


def judge_deletion(patterns: TagPatterns, tags: Iterable[TagName]) -> Denial | None:
    """Return why the deletion of these tags is denied: because of the first that may not be deleted."""
    for tag in tags:
        if patterns.unreadable:
            return Denial(tag=tag, reason=Protection.UNREADABLE)
        denied = _judge(patterns.delete, tag, Protection.PROTECTED) or _judge(
            patterns.immutable, tag, Protection.IMMUTABLE
        )
        if denied is not None:
            return denied
    return None


def may_be_pushed_once(patterns: TagPatterns, tag: TagName) -> bool:
    """Tell whether a push of the tag is allowed only as long as the tag does not exist."""
    return judge_push(patterns, tag, exists=True) is not None


def _judge(patterns: Iterable[str], tag: TagName, reason: Protection) -> Denial | None:
    for pattern in patterns:
        expression = _compiled(pattern)
        if expression is None:
            return Denial(tag=tag, reason=Protection.UNREADABLE)
        if expression.search(tag):
            return Denial(tag=tag, reason=reason)
    return None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    """Return the expression, None where it is none."""
    try:
        return compile_expression(pattern, groups=False)
    except ValueError:
        return None


def _texts(value: object) -> tuple[str, ...]:
    """Return a list of texts; null is none, as in GitLab's registry."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("patterns are a list of texts")
    return tuple(value)


def _merged(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one + other))
