"""An inventory of any size, made inside the server: repositories of given sizes with tags, manifests and history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.store.repositories import SORTED_WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.store.pool import Connection

MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"

# Tags lie in the heap in the order of time, the bad case; every manifest has two tags.
_FILL = """
INSERT INTO manifest (digest, size_bytes, total_bytes, image_created, facet_id, content, read_at)
SELECT '\\x01' || sha256(('manifest ' || n)::bytea), 500, 1000000 + (n * 7919) % 900000000,
       '2026-01-01'::timestamptz + make_interval(secs => (n * 104729) % 20000000), $1, 'read', '2026-01-01'
FROM generate_series($2::bigint, $3::bigint) AS n
ON CONFLICT DO NOTHING
"""

_TAGS = """
INSERT INTO tag (repository_id, name, manifest_id, size_bytes, published_at, image_created, first_seen_at,
                 last_event_at, last_observed_at, verified_at, facet_id, published_source, evidence, semver_key, large)
SELECT $1, CASE WHEN n % 5 = 0 THEN 'v1.' || n / 50 || '.' || n % 50 ELSE 'build-' || lpad(n::text, 8, '0') END,
       m.id, m.total_bytes, at, m.image_created, at, at, at + '1s', at + '1s', m.facet_id, 'event', 'observation',
       CASE WHEN n % 5 = 0 THEN int8send(1) || int8send(n / 50) || int8send(n % 50) || int8send(0) || '\\xff'::bytea
            ELSE ''::bytea END, $4
FROM generate_series(1, $2::bigint) AS n
CROSS JOIN LATERAL (SELECT '2026-01-01'::timestamptz + make_interval(secs => (n * 7919) % 20000000) AS at) AS clock
JOIN manifest AS m ON m.digest = '\\x01' || sha256(('manifest ' || ($3 + n / 2))::bytea)
"""

_REST = """
INSERT INTO tag_history (repository_id, name, valid_from, manifest_id, from_source)
SELECT repository_id, name, published_at, manifest_id, 'event' FROM tag WHERE repository_id = $1;
"""

_HELD = """
INSERT INTO repository_manifest (repository_id, manifest_id, pushed_at, as_of)
SELECT repository_id, manifest_id, min(published_at), max(last_observed_at)
FROM tag WHERE repository_id = $1 GROUP BY 1, 2
"""


# The same in three statements, for inventories of millions: manifest ids follow each other, and tags come in the
# order they were published in, all over the repositories.
_MANY_REPOSITORIES = """
INSERT INTO repository (name, created_at, tag_count, manifest_count, last_published_at, large)
SELECT $1 || lpad(n::text, 6, '0'), '2026-01-01', $3, $3 / 2, '2026-06-01', $4
FROM generate_series(1, $2::bigint) AS n
"""

_MANY_TAGS = """
INSERT INTO tag (repository_id, name, manifest_id, size_bytes, published_at, image_created, first_seen_at,
                 last_event_at, last_observed_at, verified_at, facet_id, published_source, evidence, semver_key, large)
SELECT $1 + r, CASE WHEN n % 5 = 0 THEN 'v1.' || n / 50 || '.' || n % 50 ELSE 'build-' || lpad(n::text, 8, '0') END,
       m.id, m.total_bytes, at, m.image_created, at, at, at + '1s', at + '1s', m.facet_id, 'event', 'observation',
       CASE WHEN n % 5 = 0 THEN int8send(1) || int8send(n / 50) || int8send(n % 50) || int8send(0) || '\\xff'::bytea
            ELSE ''::bytea END, $5
FROM generate_series(1, $2::bigint) AS r
CROSS JOIN generate_series(1, $3::bigint) AS n
CROSS JOIN LATERAL (SELECT '2026-01-01'::timestamptz + make_interval(secs => ((r * $3 + n) * 7919) % 20000000) AS at)
    AS clock
JOIN manifest AS m ON m.id = $4 + ((r - 1) * $3 + n - 1) / 2
ORDER BY at
"""

_MANY_RESTS = """
INSERT INTO tag_history (repository_id, name, valid_from, manifest_id, from_source)
SELECT repository_id, name, published_at, manifest_id, 'event' FROM tag WHERE repository_id > $1
"""

_MANY_HELD = """
INSERT INTO repository_manifest (repository_id, manifest_id, pushed_at, as_of)
SELECT repository_id, manifest_id, min(published_at), max(last_observed_at)
FROM tag WHERE repository_id > $1 GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Sized:
    """A repository to be made."""

    name: str
    tags: int


async def fill(connection: Connection, repositories: Sequence[Sized]) -> None:
    """Write the repositories that are not there, and gather statistics."""
    names = [repository.name for repository in repositories]
    there = await connection.fetch("SELECT name FROM repository WHERE name = ANY ($1::text[])", names)
    missing = [
        repository for repository in repositories if repository.name not in {row["name"] for row in there}
    ]
    if not missing:
        return
    facet = await _facet(connection)
    first = await connection.fetchval("SELECT count(*) FROM manifest", timeout=3600)
    for repository in missing:
        number = await connection.fetchval(
            "INSERT INTO repository (name, created_at, tag_count, manifest_count, last_published_at, large)"
            " VALUES ($1, '2026-01-01', $2, $3, '2026-06-01', $4) RETURNING id",
            repository.name,
            repository.tags,
            repository.tags // 2 + 1,
            repository.tags > SORTED_WHOLE,
        )
        await connection.execute(_FILL, facet, first, first + repository.tags // 2, timeout=3600)
        await connection.execute(
            _TAGS, number, repository.tags, first, repository.tags > SORTED_WHOLE, timeout=3600
        )
        await connection.execute(_REST, number, timeout=3600)
        await connection.execute(_HELD, number, timeout=3600)
        first += repository.tags // 2 + 1
    await connection.execute("VACUUM ANALYZE", timeout=3600)


async def fill_evenly(connection: Connection, prefix: str, *, repositories: int, tags_each: int) -> None:
    """Write many repositories of one size (an even number of tags), and gather statistics."""
    facet = await _facet(connection)
    first = await connection.fetchval("SELECT count(*) FROM manifest", timeout=3600)
    repository = await connection.fetchval("SELECT coalesce(max(id), 0) FROM repository")
    manifests = repositories * tags_each // 2
    large = tags_each > SORTED_WHOLE
    await connection.execute(_MANY_REPOSITORIES, prefix, repositories, tags_each, large, timeout=3600)
    await connection.execute(_FILL, facet, first, first + manifests - 1, timeout=3600)
    manifest = await connection.fetchval("SELECT max(id) FROM manifest") - manifests + 1
    await connection.execute(_MANY_TAGS, repository, repositories, tags_each, manifest, large, timeout=7200)
    await connection.execute(_MANY_RESTS, repository, timeout=7200)
    await connection.execute(_MANY_HELD, repository, timeout=7200)
    await connection.execute("VACUUM ANALYZE", timeout=7200)


async def _facet(connection: Connection) -> int:
    found: int = await connection.fetchval(
        "INSERT INTO facet (key, media_type, artifact_type, kind, platforms)"
        " VALUES ('\\x01', $1, '', 'image', '{linux/amd64}')"
        " ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING id",
        MEDIA_TYPE,
    )
    return found


def shared_out(tags: int, repositories: int, *, prefix: str = "team/app") -> list[Sized]:
    """Share tags out evenly."""
    return [Sized(f"{prefix}-{number:05d}", tags // repositories) for number in range(repositories)]
