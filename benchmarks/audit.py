"""The audit log when it is long: pages newest first, what sealing costs, and what writing the log costs ingest.

One database gets --entries generated entries in 24 monthly parts (2,000 repositories, 5,000 actors, 20,000 clients;
nine of ten entries are pulls, and a few of each word make most of the entries). Then, in several rounds:

- pages of 100, newest first, first and from the middle: of everything, and by repository, actor and action, of the
  busiest and of the rarest; and by what no index serves (tag, digest, source, address, an action that goes with every
  push or pull), which looks at 100,000 entries at most. Times are the database's own, planning and execution;
- the same where 100,000 entries of one repository occurred at one instant, which no index tells apart;
- sealing entries onto the long log, per entry;
- pushes from a full inbox to an empty one with the log (staged and sealed) and without (nothing is staged), in turns.

    python3 dev.py bench audit [--entries 20000000] [--events N]
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from benchmarks._database import server
from benchmarks._events import pushes
from benchmarks._inventory import fill, shared_out
from benchmarks._report import Report, Target, announce, command_line, say
from benchmarks.apply import drain, put_inbox
from indexer.audit.commitments import Salts
from indexer.audit.merkle import HASH_BYTES
from indexer.audit.seal import BATCH, seal
from indexer.audit.tiles import edge_of
from indexer.inventory.changes import AuditAction, AuditSource
from indexer.oci.digest import digest_from_bytes
from indexer.store import audit
from indexer.store.listing.audit import AuditFilter, audit_entries
from indexer.store.listing.keyset import Position
from indexer.store.listing.page_query import Page, fetch_page
from indexer.store.listing.scopes import find_scope
from indexer.store.pool import connect, open_pool
from indexer.store.tiles import put_tiles

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from benchmarks._events import Push
    from indexer.store.pool import Connection, Pool

ENTRIES = 20_000_000
PARTS = 24
REPOSITORIES, ACTORS, CLIENTS, MANIFESTS = 2_000, 5_000, 20_000, 50_000
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
STEP_SECONDS = 3.15
"""Between two entries: 20 million fill two years."""
LONGEST_STATEMENT = 3600
ACTIONS = ("tag.deleted", "blob.mounted", "tag.created", "tag.moved", "tag.repushed", "manifest.pushed")
SEALED = 20_000
INSTANT = 100_000

WORDS = f"""
INSERT INTO repository (name, created_at)
SELECT 'team-' || n % 50 || '/app-' || n, now() FROM generate_series(1, {REPOSITORIES}) AS n;
INSERT INTO actor (name) SELECT 'actor-' || n FROM generate_series(1, {ACTORS}) AS n;
INSERT INTO client (key, address, host, method, user_agent)
SELECT decode(md5('client' || n), 'hex'), '10.' || n % 200 || '.' || n / 200 || '.7', 'registry.example', 'GET',
       'containerd/1.7.' || n % 9
FROM generate_series(1, {CLIENTS}) AS n;
INSERT INTO facet (key, media_type, artifact_type, kind, platforms)
VALUES ('bench', 'application/vnd.oci.image.manifest.v1+json', '', 'image', '{{linux/amd64}}');
INSERT INTO manifest (digest, facet_id)
SELECT decode('01', 'hex') || sha256(n::text::bytea), (SELECT min(id) FROM facet)
FROM generate_series(1, {MANIFESTS}) AS n;
"""
"""random()^3 below favours the first of each word: the busiest has one in twenty of the entries and more."""

PART = f"""
INSERT INTO {{table}} (position, id, occurred_at, recorded_at, content_id, event_key, request_key, repository_id,
                     actor_id, client_id, client_port, facet_id, action, source, tag)
SELECT n, n, at, at + interval '1 second', m.first + (random() ^ 3 * {MANIFESTS - 1})::integer, gen_random_uuid(),
       gen_random_uuid(), r.first + (random() ^ 3 * {REPOSITORIES - 1})::integer,
       a.first + (random() ^ 3 * {ACTORS - 1})::integer, c.first + (random() ^ 3 * {CLIENTS - 1})::integer,
       40000 + n % 20000, m.facet_id,
       (CASE WHEN n % 10 > 0 THEN 'manifest.pulled' ELSE ($4::text[])[1 + (n / 10 % 6)::integer] END)::audit_action,
       (CASE WHEN n % 50 = 0 THEN 'walk' ELSE 'notification' END)::audit_source, 'v' || (n % 997)
FROM (SELECT n, $3::timestamptz + (n + random() * 100) * interval '{STEP_SECONDS} seconds' AS at
      FROM generate_series($1::bigint, $2::bigint) AS n) AS one,
     (SELECT min(id) AS first FROM repository) AS r, (SELECT min(id) AS first FROM actor) AS a,
     (SELECT min(id) AS first FROM client) AS c, (SELECT min(id) AS first, min(facet_id) AS facet_id FROM manifest) AS m
"""


async def generate(connection: Connection, entries: int) -> None:
    """Write a long log, part by part; each part's indexes are made when it is full, as fast as that can be."""
    await connection.execute(WORDS)
    await connection.execute("DROP TABLE audit_entry_1; TRUNCATE audit_part")
    size = entries // PARTS
    for part in range(PARTS):
        first = part * size + 1
        last = entries if part == PARTS - 1 else first + size - 1
        table = f"audit_entry_{first}"
        await connection.execute(f"CREATE TABLE {table} (LIKE audit_entry INCLUDING DEFAULTS)")
        await connection.execute(
            PART.format(table=table), first, last, BEGIN, list(ACTIONS), timeout=LONGEST_STATEMENT
        )
        bound = "MAXVALUE" if part == PARTS - 1 else last + 1
        await connection.execute(
            f"ALTER TABLE audit_entry ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({bound})",
            timeout=LONGEST_STATEMENT,
        )
        await connection.execute("INSERT INTO audit_part (first_position) VALUES ($1)", first)
        say(f"part {part + 1} of {PARTS}")
    await connection.execute(
        "UPDATE audit_part AS p SET last_position = n.first - 1, closed_at = now() FROM "
        "(SELECT first_position, lead(first_position) OVER (ORDER BY first_position) AS first FROM audit_part) AS n "
        "WHERE n.first_position = p.first_position AND n.first IS NOT NULL"
    )
    await connection.execute("SELECT setval('audit_staged_id_seq', $1)", entries + 1)
    await connection.execute("VACUUM (ANALYZE)", timeout=LONGEST_STATEMENT)


async def questions(connection: Connection) -> dict[str, AuditFilter]:
    """Return what is asked: the words that have the most and the fewest entries of each kind."""
    digest = digest_from_bytes(
        await connection.fetchval("SELECT digest FROM manifest ORDER BY id DESC LIMIT 1")
    )
    return {
        "all": AuditFilter(),
        "repository, busiest": AuditFilter(repositories=("team-1/app-1",)),
        "repository, rarest": AuditFilter(repositories=(f"team-{REPOSITORIES % 50}/app-{REPOSITORIES}",)),
        "actor, busiest": AuditFilter(actor="actor-1"),
        "actor, rarest": AuditFilter(actor=f"actor-{ACTORS}"),
        "action, busiest": AuditFilter(actions=(AuditAction.MANIFEST_PULLED,)),
        "action, rarest": AuditFilter(actions=(AuditAction.TAG_DELETED,)),
        "action, common, rare here": AuditFilter(actions=(AuditAction.BLOB_MOUNTED,)),
        "repository and actor": AuditFilter(repositories=("team-1/app-1",), actor="actor-1"),
        "tag": AuditFilter(tag="v7"),
        "tag, none": AuditFilter(tag="no-such-tag"),
        "digest, rare": AuditFilter(digest=digest),
        "source": AuditFilter(sources=(AuditSource.WALK,)),
        "address": AuditFilter(address=f"10.1.{CLIENTS // 200 - 1}.7"),
    }


INDEXED = ("all", "repository, busiest", "repository, rarest", "actor, busiest", "actor, rarest",
           "action, busiest", "action, rarest")  # fmt: skip


class Explaining:
    """A connection that also asks how long the database took for each statement that returns rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.spent_ms = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, statement: str, *values: object) -> Any:
        """Explain a statement, then run it."""
        plan = await self._connection.fetchval(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", *values
        )
        taken = orjson.loads(plan)[0]
        self.spent_ms += taken["Planning Time"] + taken["Execution Time"]
        return await self._connection.fetch(statement, *values)


async def page(connection: Connection, wanted: AuditFilter, position: Position | None) -> float:
    """Fetch a page as the API does; return the database's milliseconds, planning included."""
    explaining: Any = Explaining(connection)
    scope = await find_scope(explaining, repositories=wanted.repositories)
    listing = await audit_entries(explaining, scope=scope, wanted=wanted)
    await fetch_page(explaining, listing, Page(limit=100, position=position))
    return float(explaining.spent_ms)


async def of_one_instant(connection: Connection, report: Report, *, rounds: int) -> None:
    """Add entries that occurred at one later instant; ask for the first of them, and from their middle."""
    last = await connection.fetchval("SELECT max(position) FROM audit_entry")
    await connection.execute(
        "INSERT INTO audit_entry (position, id, occurred_at, recorded_at, repository_id, action, source, tag) "
        "SELECT $1 + n, $1 + n, now(), now(), r.id, 'tag.deleted', 'walk', 'v' || n "
        "FROM generate_series(1, $2::integer) AS n, repository AS r WHERE r.name = 'team-1/app-1'", last, INSTANT,
    )  # fmt: skip
    await connection.execute("VACUUM (ANALYZE) audit_entry", timeout=LONGEST_STATEMENT)
    row = await connection.fetchrow(
        "SELECT occurred_at, id FROM audit_entry WHERE position = $1", last + INSTANT // 2
    )
    half = Position((row["occurred_at"], row["id"]))  # type: ignore[index]  # it is there
    for _ in range(rounds + 1):
        for name, wanted in (
            ("all", AuditFilter()),
            ("repository", AuditFilter(repositories=("team-1/app-1",))),
        ):
            for where, position in (("first", None), ("middle", half)):
                report.add(f"of one instant, {name}, {where}", await page(connection, wanted, position), "ms")
    await connection.execute("DELETE FROM audit_entry WHERE position > $1", last)


async def middle(connection: Connection, entries: int) -> Position:
    """Return a place in the middle of the log."""
    row = await connection.fetchrow(
        "SELECT occurred_at, id FROM audit_entry WHERE position = $1", entries // 2
    )
    return Position((row["occurred_at"], row["id"]))  # type: ignore[index]  # it is there


async def end_log_at(connection: Connection, entries: int) -> None:
    """Let the sealer go on behind the generated entries: the edge of their tree is made of zeros."""
    tiles = {
        (level, index): bytes(HASH_BYTES * ((entries >> 8 * level) % 256))
        for level, index in edge_of(entries)
    }
    await put_tiles(connection, tiles=tiles)
    await connection.execute("UPDATE audit_log_head SET position = $1", entries)


async def seal_some(pool: Pool) -> float:
    """Seal entries that wait; return microseconds an entry."""
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO audit_staged (occurred_at, recorded_at, content_id, event_key, request_key, repository_id, "
            "actor_id, client_id, client_port, action, source, tag) "
            "SELECT now(), now(), content_id, gen_random_uuid(), gen_random_uuid(), repository_id, actor_id, "
            "client_id, client_port, action, source, tag FROM audit_entry ORDER BY position DESC LIMIT $1", SEALED,
        )  # fmt: skip
    salts = Salts()
    began = time.perf_counter()
    done = 0
    while sealed := await seal(pool, limit=BATCH, salts=salts):
        done += sealed
    assert done == SEALED, done
    return (time.perf_counter() - began) / done * 1e6


@contextmanager
def unlogged() -> Iterator[None]:
    """Stage nothing."""
    kept = audit.stage_entries

    async def nothing(*_: object, **__: object) -> None:
        return None

    audit.stage_entries = nothing
    try:
        yield
    finally:
        audit.stage_entries = kept


async def ingest(url: str, events: Sequence[Push], *, logged: bool) -> float:
    """Drain a full inbox, and seal; return events a second."""
    await put_inbox(url, events)
    pool = await open_pool(url, size=2, application="bench seal")
    began = time.perf_counter()
    if logged:
        await drain(url, workers=1)
        salts = Salts()
        while await seal(pool, limit=BATCH, salts=salts):
            pass
    else:
        with unlogged():
            await drain(url, workers=1)
    took = time.perf_counter() - began
    written = await pool.fetchval(
        "SELECT (SELECT count(*) FROM audit_staged) + (SELECT position FROM audit_log_head)"
    )
    assert (written > 0) is logged, written
    await pool.close()
    return len(events) / took


async def run(arguments: argparse.Namespace) -> None:
    report = Report("audit")
    quick = arguments.quick
    entries = arguments.entries or (100_000 if quick else ENTRIES)
    count = arguments.events or (400 if quick else 4_000)
    rounds = arguments.rounds or (2 if quick else 5)
    sized = shared_out(2_000 if quick else 50_000, 10 if quick else 300)
    repositories = [(repository.name, repository.tags) for repository in sized]
    async with server() as place:
        url = await place.template()
        connection = await connect(url, application="bench")
        version = await connection.fetchval("SHOW server_version")
        await fill(connection, sized)
        await connection.close()
        announce(report, postgresql=version, entries=entries, parts=PARTS, events=count, rounds=rounds)
        for turn in range(rounds):
            events = pushes(count, repositories, seed=turn)
            for name, logged in (("ingest, logged", True), ("ingest, not logged", False)):
                async with place.copy("bench_turn") as copied:
                    report.add(name, await ingest(copied, events, logged=logged), "events/s")
        async with place.copy("bench_audit") as long:
            await ask(report, long, entries, rounds=rounds)
        report.show()
        report.ratio("ingest, logged", "ingest, not logged", target=Target(at_least=0.67))
        worst = max(report.median(f"{name}, {where}") for name in INDEXED for where in ("first", "middle"))
        print(f"slowest indexed page: {worst:.2f} ms, {Target(at_most=10).judge(worst)}")
    report.keep(arguments)


async def ask(report: Report, url: str, entries: int, *, rounds: int) -> None:
    """Generate, weigh, ask and seal."""
    connection = await connect(url, application="bench")
    began = time.perf_counter()
    await generate(connection, entries)
    report.add("generated", entries / (time.perf_counter() - began), "entries/s")
    size = await connection.fetchval(
        "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'audit_entry'::regclass"
    )
    report.add("size", float(size) / entries, "bytes/entry")
    asked = await questions(connection)
    half = await middle(connection, entries)
    for _ in range(rounds + 1):  # the first warms the cache
        for name, wanted in asked.items():
            for where, position in (("first", None), ("middle", half)):
                report.add(f"{name}, {where}", await page(connection, wanted, position), "ms")
    await of_one_instant(connection, report, rounds=rounds)
    pool = await open_pool(url, size=2, application="bench")
    await end_log_at(connection, entries)
    for _ in range(rounds):
        report.add("seal onto the long log", await seal_some(pool), "µs/entry")
    await pool.close()
    await connection.close()


def main() -> None:
    parser = command_line(__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, help=f"length of the log ({ENTRIES:,})")
    parser.add_argument("--events", type=int, help="pushes a round")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
