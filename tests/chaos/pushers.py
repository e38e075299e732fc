"""Who pushes while others delete, and what must be there because of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from indexer.oci.reference import RepositoryName
from tools.sample_images import Image, Pusher, PushError, artifact, docker_image, index, oci_image

TRIES: Final = 6
LAYERS: Final = (64,)


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image with what is attached to it, as its owner expects to pull it."""

    image: Image
    attached: tuple[Image, ...] = ()
    how: str = ""

    @property
    def digest(self) -> str:
        """The image's digest."""
        return self.image.digest

    def manifests(self) -> list[Image]:
        """Everything that is named by a digest in the registry: the image, its children, what is attached."""
        found: list[Image] = []
        left = [self.image, *self.attached]
        while left:
            each = left.pop()
            found.append(each)
            left += each.children
        return found


@dataclass
class Shelf:
    """A repository: what each tag must be (None: deleted), and what was pushed without a tag and must stay."""

    name: RepositoryName
    tags: dict[str, Pushed | None]
    siblings: dict[str, Pushed] = field(default_factory=dict)
    untagged: list[Pushed] = field(default_factory=list)
    unwanted: dict[str, Image] = field(default_factory=dict)
    """What is to be unlinked in this round, by digest."""
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)


class Pushers:
    """Pushes to shelves, one at a time for each tag, so that it is known which push was the last."""

    def __init__(self, url: str, chance: random.Random, shelves: Sequence[Shelf]) -> None:
        self._url = url
        self._chance = chance
        self._free: list[Pusher] = []
        self._number = 0
        self.shelves = {shelf.name: shelf for shelf in shelves}
        self.known: dict[str, Pushed] = {}
        """Everything that was ever pushed with a tag, by digest."""
        self.pushes = 0
        self.between = 0
        self.failed = 0
        self.refused = 0

    def close(self) -> None:
        """Close the connections."""
        for each in self._free:
            each.close()

    def make(self) -> Pushed:
        """Make what nobody pushed before: an image, an index that shares a child, or an image with a signature."""
        self._number += 1
        name = f"image {self._number}"
        make: Callable[..., Image] = self._chance.choice([oci_image, docker_image])
        image = make(name, layer_sizes=LAYERS)
        drawn = self._chance.random()
        if drawn < 0.15:
            shared = oci_image(f"shared {self._chance.randrange(5)}", layer_sizes=LAYERS)
            return Pushed(index([shared, oci_image(name, layer_sizes=LAYERS)]))
        if drawn < 0.3:
            return Pushed(image, (artifact(f"signature of {name}", subject=image),))
        return Pushed(image)

    async def to_tag(self, shelf: Shelf, tag: str, pushed: Pushed | None = None) -> None:
        """Push to a tag, as clients do: again where the registry fails because the tag goes at that moment.

        It has announced such a push by then, so it may be put back: another answer says what the tag must be.
        """
        async with shelf.locks.setdefault(tag, asyncio.Lock()):
            pushed = pushed or self.make()
            await self.send(shelf, pushed.image, tag)
            shelf.tags[tag] = Pushed(pushed.image, how=f"to {tag}")
            for each in pushed.attached:
                await self.send(shelf, each)
            shelf.tags[tag] = pushed
            self.known[pushed.digest] = pushed

    async def send(self, shelf: Shelf, image: Image, tag: str | None = None) -> None:
        """Push an image, again where it fails as it may."""
        for _ in range(TRIES):
            pusher = self._free.pop() if self._free else Pusher(self._url)
            try:
                await asyncio.to_thread(pusher.push, shelf.name, image, tag)
            except PushError as error:
                if ": 500 " not in str(error) and ": 400 " not in str(error) and ": 404 " not in str(error):
                    raise
                self.failed += 1
            else:
                self.pushes += 1
                return
            finally:
                self._free.append(pusher)
        raise AssertionError(
            f"{TRIES} pushes of {shelf.name}:{tag or image.digest} failed one after the other"
        )

    async def before(self, method: str, repository: RepositoryName, reference: str) -> None:
        """Push what a request that is about to be sent could undo."""
        shelf = self.shelves[repository]
        if reference in shelf.unwanted and method == "DELETE":
            await self.beside(shelf, shelf.unwanted[reference])
        elif reference in shelf.tags:
            same = shelf.tags[reference] if self._chance.random() < 0.3 else None
            await self.to_tag(shelf, reference, same)
        else:
            await self.to_tag(shelf, self._chance.choice(sorted(shelf.tags)))
        self.between += 1

    async def beside(self, shelf: Shelf, image: Image) -> None:
        """Push something that needs a manifest that is to go: a tag, itself, an index, or what is attached to it."""
        way = self._chance.choice(["tag", "digest", "index", "bare index", "referrer"])
        self._number += 1
        if way == "tag":
            await self.to_tag(shelf, self._chance.choice(sorted(shelf.tags)), Pushed(image, how=way))
            return
        if way == "digest":
            pushed = Pushed(image, how=way)
            await self.send(shelf, image)
        elif way == "referrer":
            pushed = Pushed(image, (artifact(f"attached {self._number}", subject=image),), way)
            await self.send(shelf, pushed.attached[0])
        else:
            parent = index([image], annotations={"number": str(self._number)})
            pushed = Pushed(parent, how=way)
            if way == "bare index" and not await self._sent_bare(shelf, parent):
                way = "index"
            if way == "index":
                await self.send(shelf, parent)
        shelf.untagged.append(pushed)

    async def _sent_bare(self, shelf: Shelf, parent: Image) -> bool:
        """Push an index whose child the pusher believes to be there; the registry refuses it where it is gone."""
        pusher = self._free.pop() if self._free else Pusher(self._url)
        try:
            await asyncio.to_thread(pusher.push, shelf.name, replace(parent, children=()))
        except PushError:
            self.refused += 1
            return False
        finally:
            self._free.append(pusher)
        self.pushes += 1
        return True

    async def keep_pushing(self, stop: asyncio.Event) -> None:
        """Push to tags at random, and beside what is to go, until told to stop."""
        while not stop.is_set():
            shelf = self._chance.choice(list(self.shelves.values()))
            if shelf.unwanted and self._chance.random() < 0.3:
                one = self._chance.choice(sorted(shelf.unwanted))
                await self.beside(shelf, shelf.unwanted[one])
            else:
                await self.to_tag(shelf, self._chance.choice(sorted(shelf.tags)))
            await asyncio.sleep(self._chance.random() * 0.4)
