"""The list of tags, or manifests, that we deleted, newest first, each with what is on record of it since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.inventory.trash import Deleted
from indexer.oci.digest import digest_from_bytes
from indexer.store.listing.keyset import Column, KeyPart, orders_of
from indexer.store.listing.page_query import PageQuery, Row
from indexer.store.listing.statement import Condition, look_up

COLUMNS: Mapping[str, Column] = {
    "done_at": Column(name="done_at", sql="t.done_at", type="timestamptz"),
    "id": Column(name="id", sql="t.id", type="uuid"),
}

_OUTER = (
    "a.id, a.repository, a.tag, a.digest, a.done_at, a.actor, a.source, a.reason, a.job_id, a.outcome, a.gone, "
    "a.kept_until, n.id IS NOT NULL AS is_there, m.digest AS now_at, b.restored_at, g.unlinked_at, g.id AS held, "
    "EXISTS (SELECT FROM trash_manifest AS k WHERE k.action_id = a.id AND k.digest = a.digest) AS kept, "
    "EXISTS (SELECT FROM tag_action AS u WHERE u.repository = a.repository AND u.tag = a.tag AND u.id <> a.id "
    "AND (u.tag <> '' OR u.digest = a.digest) AND u.state IN ('planned', 'requested')) AS under_way, "
    "EXISTS (SELECT FROM trash_copy AS c WHERE c.repository = a.repository AND c.digest = a.digest "
    "AND c.put_at IS NOT NULL) AS copied"
)
_JOINS = (
    f"{look_up('tag_action', 'a', 'id')} "
    "LEFT JOIN LATERAL (SELECT r.id, t.manifest_id FROM repository AS r JOIN tag AS t ON t.repository_id = r.id "
    "WHERE r.name = a.repository AND t.name = a.tag LIMIT 1) AS n ON true "
    "LEFT JOIN manifest AS m ON m.id = n.manifest_id "
    "LEFT JOIN LATERAL (SELECT max(x.done_at) AS restored_at FROM tag_action AS x WHERE x.of_action = a.id "
    "AND x.kind = 'restore' AND x.outcome IS DISTINCT FROM 'not_done') AS b ON true "
    "LEFT JOIN LATERAL (SELECT r.id, h.deleted_at AS unlinked_at FROM repository AS r JOIN repository_manifest AS h "
    "ON h.repository_id = r.id JOIN manifest AS d ON d.id = h.manifest_id "
    "WHERE r.name = a.repository AND d.digest = a.digest) AS g ON true"
)

_CARRIED_OUT = "t.kind = '{}' AND t.done_at IS NOT NULL AND t.outcome IS DISTINCT FROM 'not_done'"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashFilter:
    """Which deletions a caller wants; None: any. ``manifests``: of these by their digest, in place of tags."""

    repositories: Sequence[str] | None = None
    tag: str | None = None
    deleted_by: Sequence[str] | None = None
    job: str | None = None
    deleted_after: datetime | None = None
    deleted_before: datetime | None = None
    manifests: bool = False


def listed_trash(*, granted: Collection[str] | None, wanted: TrashFilter) -> PageQuery:
    """Return the list. ``granted``: only of these repositories; None: of all."""
    plain: tuple[tuple[str, object], ...] = (
        ("t.repository = ANY ({}::text[])", None if granted is None else sorted(granted)),
        ("t.repository = ANY ({}::text[])", wanted.repositories),
        ("t.tag = {}", wanted.tag),
        ("t.actor = ANY ({}::text[])", wanted.deleted_by),
        ("t.job_id::text = {}", wanted.job),
        ("t.done_at > {}", wanted.deleted_after),
        ("t.done_at < {}", wanted.deleted_before),
    )
    return PageQuery(
        source=_source,
        scope=(Condition(_CARRIED_OUT.format("unlink" if wanted.manifests else "delete")),),
        orders=orders_of(COLUMNS, [("done_at", True)], ties=["done_at", "id"]),
        identity=(("id", "uuid"),),
        outer=_OUTER,
        joins=_JOINS,
        filters=tuple(Condition(text, (value,)) for text, value in plain if value is not None),
    )


def deleted_of(row: Row) -> Deleted:
    """Return what decides whether the deletion of a row can be undone."""
    digest = digest_from_bytes(row["digest"])
    if not row["tag"]:
        there = row["held"] is not None and row["unlinked_at"] is None
        is_there, now_at = there, digest if there else None
    else:
        is_there = row["is_there"]
        now_at = None if row["now_at"] is None else digest_from_bytes(row["now_at"])
    return Deleted(
        digest=digest,
        manifest=not row["tag"],
        kept=row["kept"],
        kept_until=row["kept_until"],
        gone=row["gone"],
        followed=row["outcome"] in (None, "uncertain"),
        under_way=row["under_way"],
        is_there=is_there,
        now_at=now_at,
        restored_at=row["restored_at"],
        unlinked_at=row["unlinked_at"],
        copied=row["copied"],
    )


def _source(_part: KeyPart) -> str:
    return "tag_action AS t"
