"""Which connections there is room for, how much of their heads is kept, and which of them gives way."""

from __future__ import annotations

from dataclasses import dataclass, field

from indexer.httpserver.crowd import Crowd
from indexer.httpserver.limits import Limits


@dataclass(eq=False)
class Client:
    """A connection that does nothing, but where it is told to."""

    group: str = "192.0.2.1"
    is_idle: bool = True
    gave_way: list[str] = field(default_factory=list)

    def give_way(self) -> None:
        self.gave_way.append("at once")


def crowd(*, connections: int = 10, per_address: int = 10, heads_bytes: int = 100) -> Crowd:
    return Crowd(
        Limits(connections=connections, connections_per_address=per_address, heads_bytes=heads_bytes)
    )


def test_kept_heads__together_are_bounded() -> None:
    """To the byte: what fits is kept, what does not is refused and does not count."""
    some = crowd(heads_bytes=100)
    assert some.keep_head(Client(), 60)
    assert not some.keep_head(Client(), 41)
    assert some.keep_head(Client(), 40)
    assert not some.keep_head(Client(), 1)


def test_kept_heads__one_in_place_of_another() -> None:
    """The next long head of a connection takes the place of its last: what is kept is counted once."""
    some, client = crowd(heads_bytes=100), Client()
    assert some.keep_head(client, 60)
    assert some.keep_head(client, 100)
    assert not some.keep_head(client, 101)
    assert some.keep_head(client, 30)
    assert some.keep_head(Client(), 70)


def test_kept_heads__go_with_their_connection() -> None:
    """Also of one that was closed before it was given a place, or twice."""
    some, client = crowd(heads_bytes=100), Client()
    assert some.keep_head(client, 100)
    for _ in range(2):
        some.leave(client)
    assert some.keep_head(Client(), 100)
    assert not some.keep_head(Client(), 1)


def test_unfinished_heads__the_oldest_give_way() -> None:
    """A head that grows keeps its place, and as many give way as it takes."""
    some = crowd(heads_bytes=100)
    oldest, older, newest = Client(), Client(), Client()
    for client in (oldest, older, newest):
        assert some.join(client)
        some.hold_head(client, 10)
    some.hold_head(oldest, 20)
    some.hold_head(newest, 70)
    assert [[], [], []] == [client.gave_way for client in (oldest, older, newest)]
    some.hold_head(newest, 95)
    assert [["at once"], ["at once"], []] == [client.gave_way for client in (oldest, older, newest)]
    some.finish_head(newest)
    some.hold_head(Client(), 100)
    assert [] == newest.gave_way


def test_connections__the_idle_one_that_was_silent_longest_gives_way() -> None:
    """One that is answered keeps its place, however long nothing came from it."""
    some = crowd(connections=3)
    busy, silent, lively = Client(is_idle=False), Client(), Client()
    for client in (busy, silent, lively):
        assert some.join(client)
    for client in (busy, lively):
        some.moved(client)
    assert some.join(Client(is_idle=False))
    assert [[], ["at once"], []] == [client.gave_way for client in (busy, silent, lively)]
    lively.is_idle = False
    assert not some.join(Client())


def test_connections__of_one_address_make_room_among_themselves() -> None:
    """Who has many loses one of them; where all places are taken, the address with the most does."""
    some = crowd(connections=4, per_address=2)
    one, other, third = Client(group="a"), Client(group="a"), Client(group="b")
    for client in (one, other, third):
        assert some.join(client)
    assert some.join(Client(group="a"))
    assert [["at once"], [], []] == [client.gave_way for client in (one, other, third)]
    assert some.join(Client(group="c"))
    assert some.join(Client(group="d"))
    assert [["at once"], ["at once"], []] == [client.gave_way for client in (one, other, third)]
