"""The audit log: newest first, sealed or not, with the pulls that are still beside it; and by position for export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.inventory.changes import AuditAction, AuditSource
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.store.audit import BLOB_ACTIONS
from indexer.store.listing.interned import SQL as IDS
from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery, Row
from indexer.store.listing.scopes import Scope, of_repositories, restrict
from indexer.store.listing.statement import NOTHING, Condition, SqlStatement
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_audit")

COMMON_ACTIONS = frozenset(
    {
        AuditAction.MANIFEST_PUSHED,
        AuditAction.MANIFEST_PULLED,
        AuditAction.MANIFEST_CHECKED,
        AuditAction.BLOB_PUSHED,
        AuditAction.BLOB_MOUNTED,
    }
)
"""What index audit_by_action leaves out: a scan of the log finds a page of these soon."""

STEP = 100_000
"""Entries that one request reads where no index serves its filter."""

COLUMNS: Mapping[str, Column] = {
    "occurred_at": Column(name="occurred_at", sql="t.occurred_at", type="timestamptz"),
    "id": Column(name="id", sql="t.id", type="bigint", beyond=(0, 2**63 - 1)),
}

_ENTRY = (
    "id, occurred_at, recorded_at, not_before, content_id, previous_id, event_key, request_key, "
    "repository_id, actor_id, client_id, instance_id, client_port, action, source, tag, detail"
)
_PULL = (
    "id, occurred_at, recorded_at, NULL::timestamptz AS not_before, manifest_id AS content_id, "
    "NULL::bigint AS previous_id, event_key, request_key, repository_id, actor_id, client_id, instance_id, "
    f"client_port, CASE WHEN checked THEN '{AuditAction.MANIFEST_CHECKED}'::audit_action "
    f"ELSE '{AuditAction.MANIFEST_PULLED}'::audit_action END AS action, "
    f"'{AuditSource.NOTIFICATION}'::audit_source AS source, tag, detail"
)
_UNSEALED = "NULL::bigint AS position, NULL::integer AS facet_id"
# One statement reads all three, so an entry that is being moved is read exactly once.
_SOURCE = (
    f"(SELECT position, facet_id, {_ENTRY} FROM audit_entry UNION ALL "
    f"SELECT {_UNSEALED}, {_ENTRY} FROM audit_staged UNION ALL "
    f"SELECT {_UNSEALED}, {_PULL} FROM pull_detail) AS t"
)
_BLOB_ACTIONS = ", ".join(f"'{action}'" for action in sorted(BLOB_ACTIONS))

OUTER = (
    "w.position, w.id, w.occurred_at, w.recorded_at, w.not_before, w.event_key, w.request_key, "
    "w.action::text AS action, w.source::text AS source, w.tag, w.detail, w.client_port, "
    "r.name AS repository, a.name AS actor, m.digest AS manifest_digest, b.digest AS blob_digest, "
    "p.digest AS previous_digest, f.media_type, "
    "c.address, c.host, c.method, c.user_agent, i.instance, i.address AS registry_address"
)
_JOINS = (
    "LEFT JOIN repository AS r ON r.id = w.repository_id LEFT JOIN actor AS a ON a.id = w.actor_id "
    f"LEFT JOIN manifest AS m ON m.id = w.content_id AND w.action NOT IN ({_BLOB_ACTIONS}) "
    f"LEFT JOIN blob AS b ON b.id = w.content_id AND w.action IN ({_BLOB_ACTIONS}) "
    "LEFT JOIN manifest AS p ON p.id = w.previous_id "
    # What is known of a manifest may grow. A sealed entry says what was known then.
    "LEFT JOIN facet AS f ON f.id = coalesce(w.facet_id, m.facet_id) "
    "LEFT JOIN client AS c ON c.id = w.client_id LEFT JOIN registry_instance AS i ON i.id = w.instance_id"
)

_SALTS = "LEFT JOIN audit_salt AS sa ON sa.id = w.actor_salt_id LEFT JOIN audit_salt AS sc ON sc.id = w.client_salt_id"
PROOF = (
    "sa.commitment AS actor_commitment, sa.salt AS actor_salt, sc.commitment AS client_commitment, "
    "sc.salt AS client_salt"
)
"""The commitments of a sealed entry, for checking its leaf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries a caller wants; None or empty: any. Times are exclusive bounds."""

    repositories: tuple[str, ...] = ()
    prefix: str | None = None
    tag: str | None = None
    digest: Digest | None = None
    actions: tuple[AuditAction, ...] = ()
    actor: str | None = None
    sources: tuple[AuditSource, ...] = ()
    address: str | None = None
    occurred_after: datetime | None = None
    occurred_before: datetime | None = None


EVERY_ENTRY = AuditFilter()


async def audit_entries(connection: Connection, *, scope: Scope | None, wanted: AuditFilter) -> PageQuery:
    """Return the list of entries, newest first. ``scope``: the repositories that the filter leaves."""
    conditions = await _conditions(connection, wanted)
    asked = (wanted.tag, wanted.digest, wanted.sources or None, wanted.address)
    several = len(wanted.actions) > 1  # then the index by action has no order of their times
    searches = (
        several or not COMMON_ACTIONS.isdisjoint(wanted.actions) or any(value is not None for value in asked)
    )
    restricted = restrict(scope, searches=searches)
    return PageQuery(
        source=_source,
        scope=restricted.scope,
        orders=orders_of(COLUMNS, [("occurred_at", True)], ties=["occurred_at", "id"]),
        identity=tuple((name.strip(), "") for name in f"position, facet_id, {_ENTRY}".split(",")),
        outer=OUTER,
        joins=_JOINS,
        filters=(*conditions, *restricted.filters),
        bound=STEP if restricted.bounded else None,
        each=restricted.each,
    )


async def sealed_entries(
    connection: Connection,
    *,
    scope: Scope | None,
    wanted: AuditFilter,
    after: int,
    until: int,
    limit: int,
    proof: bool = False,
    more: tuple[Condition, ...] = (),
) -> list[Row]:
    """Return the sealed entries in (after, until] that the filter leaves, in order, at most ``limit``.

    ``proof``: with the columns of ``PROOF``. ``more``: further conditions on ``audit_entry AS t``.
    """
    conditions = (*await _conditions(connection, wanted), *more)
    if scope is not None:
        conditions += (of_repositories(scope),)
    statement = SqlStatement()
    where = statement.where(
        Condition("t.position > {}", (after,)), Condition("t.position <= {}", (until,)), *conditions
    )
    inner = f"SELECT t.* FROM audit_entry AS t {where} ORDER BY t.position LIMIT {statement.bind(limit)}"
    columns, joins = (f"{OUTER}, {PROOF}", f"{_JOINS} {_SALTS}") if proof else (OUTER, _JOINS)
    text = f"SELECT {columns} FROM ({inner}) AS w {joins} ORDER BY w.position"
    return list(await connection.fetch(text, *statement.values))


async def staged_entries(connection: Connection, *, limit: int) -> list[Row]:
    """Return the next staged entries, as the log will show them, with what the sealer needs of them."""
    text = (
        f"SELECT {OUTER}, w.actor_id, w.client_id, m.facet_id FROM "
        f"(SELECT {_UNSEALED}, {_ENTRY} FROM audit_staged ORDER BY id LIMIT $1) AS w {_JOINS} ORDER BY w.id"
    )
    return list(await connection.fetch(text, limit))


async def head_position(connection: Connection) -> int:
    """Return the position of the newest sealed entry; 0: there is none."""
    return int(await connection.fetchval(SQL["head_position"]))


def _source(_part: KeyPart) -> str:
    return _SOURCE


async def _conditions(connection: Connection, wanted: AuditFilter) -> tuple[Condition, ...]:
    plain: tuple[tuple[str, object], ...] = (
        ("t.tag = {}", wanted.tag),
        ("t.occurred_at > {}", wanted.occurred_after),
        ("t.occurred_at < {}", wanted.occurred_before),
    )
    conditions = tuple(Condition(text, (value,)) for text, value in plain if value is not None)
    # Written out, not bound: only then the planner knows that index audit_by_action has it.
    if wanted.actions:
        conditions += (Condition(_any_of("t.action", [AuditAction(action) for action in wanted.actions])),)
    if wanted.sources:
        conditions += (Condition(_any_of("t.source", [AuditSource(source) for source in wanted.sources])),)
    if wanted.digest is not None:
        conditions += (await _of_digest(connection, wanted.digest),)
    if wanted.actor is not None:
        number = await connection.fetchval(IDS["actor_id"], wanted.actor)
        conditions += (Condition("t.actor_id = {}", (number,)) if number is not None else NOTHING,)
    if wanted.address is not None:
        ids = [row["id"] for row in await connection.fetch(SQL["clients_at"], wanted.address)]
        conditions += (Condition("t.client_id = ANY ({}::integer[])", (ids,)) if ids else NOTHING,)
    return conditions


def _any_of(column: str, values: Sequence[AuditAction] | Sequence[AuditSource]) -> str:
    """Return a condition with values of our own enums written out."""
    quoted = ", ".join(f"'{value}'" for value in dict.fromkeys(values))
    return f"{column} IN ({quoted})"


async def _of_digest(connection: Connection, digest: Digest) -> Condition:
    """Match entries of a digest. Whether their content is a blob or a manifest depends on their action."""
    packed = digest_to_bytes(digest)
    manifest = await connection.fetchval(IDS["manifest_id"], packed)
    blob = await connection.fetchval(IDS["blob_id"], packed)
    either: list[Condition] = []
    if manifest is not None:
        either.append(Condition(f"(t.content_id = {{}} AND t.action NOT IN ({_BLOB_ACTIONS}))", (manifest,)))
    if blob is not None:
        either.append(Condition(f"(t.content_id = {{}} AND t.action IN ({_BLOB_ACTIONS}))", (blob,)))
    if not either:
        return NOTHING
    text = " OR ".join(condition.text for condition in either)
    return Condition(f"({text})", tuple(value for condition in either for value in condition.values))
