"""What applying pushes costs when every decision was made beforehand: the statements, their arrays, nothing else.

It writes what our worker writes (state, history, audit, due work, counters), from arrays made before the clock
starts; only the ids of the manifests it has just inserted are looked up while it runs.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from benchmarks._report import batched
from indexer.store.instants import FOR_EVER, NEVER
from indexer.store.pool import connect
from indexer.store.queries import load
from indexer.store.repositories import SORTED_WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._events import Push
    from indexer.store.pool import Connection

_CLOSE = """
UPDATE tag_history AS h SET valid_to = gone.at
FROM unnest($1::integer[], $2::text[], $3::timestamptz[]) AS gone (repository_id, name, at)
WHERE h.repository_id = gone.repository_id AND h.name = gone.name AND h.valid_to = 'infinity'
"""

_TAKE = (
    "SELECT id, received_at, body FROM inbox WHERE id = ANY ($1::bigint[]) ORDER BY id FOR UPDATE SKIP LOCKED"
)

_STATE = """
SELECT t.repository_id, t.name, t.revision, t.manifest_id
FROM unnest($1::integer[], $2::text[]) AS w (repository_id, name)
JOIN tag AS t ON t.repository_id = w.repository_id AND t.name = w.name
"""


@dataclass(frozen=True, slots=True)
class BareWriter:
    """Arrays for the statements, by the number of the push."""

    columns: dict[str, list[Any]]
    facet_id: int
    instance_id: int

    @classmethod
    async def prepare(cls, url: str, events: Sequence[Push]) -> BareWriter:
        """Make all arrays, and the words they refer to."""
        connection = await connect(url, application="bench")
        repositories = {r["name"]: r["id"] for r in await connection.fetch("SELECT name, id FROM repository")}
        actors = sorted({str(push.event["actor"]["name"]) for push in events})  # type: ignore[index]
        await connection.execute(load("lookups")["add_actors"], actors)
        actor_ids = {r["name"]: r["id"] for r in await connection.fetch("SELECT name, id FROM actor")}
        instance = await connection.fetchval(
            "INSERT INTO registry_instance (key, instance, address, first_seen_at, last_seen_at, first_event_at,"
            " last_event_at) VALUES ('\\x01', 'i', 'a', now(), now(), 'infinity', '-infinity') RETURNING id"
        )
        client = await connection.fetchval(
            "INSERT INTO client (key, address, host, method, user_agent) VALUES ('\\x01', 'a', 'h', 'PUT', 'u')"
            " RETURNING id"
        )
        facet = await connection.fetchval("SELECT min(id) FROM facet")
        inbox = [r["id"] for r in await connection.fetch("SELECT id FROM inbox ORDER BY id")]
        await connection.close()
        columns: dict[str, list[Any]] = {
            "inbox": inbox,
            "event": [uuid.UUID(str(push.event["id"])) for push in events],
            "request": [uuid.UUID(push.event["request"]["id"]) for push in events],  # type: ignore[index]
            "repository": [repositories[push.repository] for push in events],
            "actor": [actor_ids[push.event["actor"]["name"]] for push in events],  # type: ignore[index]
            "client": [client for _ in events],
            "instance": [instance for _ in events],
            "tag": [push.tag for push in events],
            "text": [push.digest for push in events],
            "digest": [b"\x01" + bytes.fromhex(push.digest[7:]) for push in events],
            "at": [push.at for push in events],
            "move": [push.is_move for push in events],
        }
        return cls(columns, facet, instance)

    async def write(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Apply one batch in one transaction."""
        c = {name: [values[number] for number in numbers] for name, values in self.columns.items()}
        count = len(numbers)
        now = datetime.now(UTC)
        ids = sorted(set(c["repository"]))
        sql = {
            resource: load(resource)
            for resource in ("inbox", "events", "manifests", "tags", "history", "audit", "work_items")
        }
        async with connection.transaction():
            await connection.fetch(_TAKE, c["inbox"])
            await connection.execute(sql["events"]["remember_events"], c["event"], [now] * count)
            await connection.execute(sql["manifests"]["lock_repositories_by_id"], ids)
            state = {
                (r[0], r[1]): (r[2], r[3]) for r in await connection.fetch(_STATE, c["repository"], c["tag"])
            }
            added = await connection.fetch(
                sql["manifests"]["add_manifests"], c["digest"], [1234] * count, [self.facet_id] * count
            )
            found = {row["digest"]: row["id"] for row in added}
            manifests = [found[digest] for digest in c["digest"]]
            nothing = [None] * count
            await connection.execute(
                sql["manifests"]["put_repository_manifests"],
                c["repository"],
                manifests,
                c["at"],
                c["at"],
                nothing,
                c["actor"],
                nothing,
                nothing,
            )
            known = [state.get(key, (0, None)) for key in zip(c["repository"], c["tag"], strict=True)]
            await connection.execute(
                sql["tags"]["put_tags"],
                c["repository"], c["tag"], manifests, c["at"], c["at"], c["at"], [NEVER] * count, nothing, nothing,
                c["actor"], [k[0] + 1 for k in known], ["event"] * count, ["event"] * count, [None] * count,
                [b""] * count, self.facet_id, c["at"],
            )  # fmt: skip
            moved = [number for number, move in enumerate(c["move"]) if move]
            await connection.execute(
                _CLOSE, *([c[name][n] for n in moved] for name in ("repository", "tag", "at"))
            )
            await connection.execute(
                sql["history"]["put_intervals"],
                c["repository"], c["tag"], c["at"], [FOR_EVER] * count, nothing, manifests, c["event"], c["actor"],
                ["event"] * count, nothing, nothing,
            )  # fmt: skip
            await self._stage(connection, c, manifests, [k[1] for k in known], now)
            await self._due(connection, c, ids, now)
            await connection.execute(
                load("repositories")["count_repositories"],
                ids, [1] * len(ids), [1] * len(ids), [now] * len(ids), [NEVER] * len(ids), [FOR_EVER] * len(ids),
                SORTED_WHOLE, [NEVER] * len(ids),
            )  # fmt: skip
            await connection.execute(
                load("lookups")["count_instance_events"], [self.instance_id], [count], [now], [now], [now]
            )
            await connection.execute(sql["inbox"]["finish_deliveries"], c["inbox"], now)

    @staticmethod
    async def _stage(
        connection: Connection,
        c: dict[str, list[Any]],
        manifests: list[int],
        previous: list[int | None],
        now: datetime,
    ) -> None:
        """Two entries a push: the manifest's and the tag's."""
        actions = ["manifest.pushed"] * len(manifests)
        actions += ["tag.moved" if move else "tag.created" for move in c["move"]]
        nothing = [None] * len(actions)
        await connection.execute(
            load("audit")["stage_entries"],
            c["at"] * 2, [now] * len(actions), nothing, manifests * 2, [None] * len(manifests) + previous,
            c["event"] * 2, c["request"] * 2, c["repository"] * 2, c["actor"] * 2, c["client"] * 2, c["instance"] * 2,
            nothing, actions, ["notification"] * len(actions), [None] * len(manifests) + c["tag"], nothing,
        )  # fmt: skip

    @staticmethod
    async def _due(connection: Connection, c: dict[str, list[Any]], ids: list[int], now: datetime) -> None:
        count = len(c["tag"])
        kinds = ["verify"] * count + ["resolve"] * count + ["measure"] * len(ids)
        await connection.execute(
            load("work_items")["enqueue"],
            kinds, c["repository"] * 2 + ids, c["tag"] + c["text"] + [""] * len(ids), now, [now] * len(kinds),
            timedelta(seconds=1),
        )  # fmt: skip


async def one_table(url: str, events: Sequence[Push]) -> float:
    """Write the raw pushes into one table, 100 a statement; return events a second."""
    bodies = [push.body for push in events]
    connection = await connect(url, application="bench")
    await connection.execute(
        "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz, body bytea)"
    )
    began = time.perf_counter()
    for number, group in enumerate(batched(bodies, 100)):
        at = events[number * 100].at
        await connection.execute(
            "INSERT INTO plain (at, body) SELECT $1, body FROM unnest($2::bytea[]) AS new (body)", at, group
        )
        await asyncio.sleep(0)
    took = time.perf_counter() - began
    await connection.close()
    return len(events) / took
