"""What no name can ever fulfil: a scope hidden behind others, a selector that excludes all it includes.

Selectors are sets of names. Whether one set has any name outside others is decided by reading all names at once, one
character after the other, until a name is found or there are no more states: the grammar of names is read along, so
that what only a name would match that no registry takes counts as nothing.

What a regular expression or a version matches is not looked into: it may be any name. So "nothing is left" is always
true when it is said, and may go unsaid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from indexer.policies.patterns import Glob, Machine, Subject

MOST_STATES = 20_000
"""Beyond that it is left unsaid: globs that need more are never written by hand."""

Maybe = bool | None
"""Whether a name is in a set; None: it may be, or not."""

_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_WORD, _DOT, _SCORE, _SCORES, _DASH = 1, 2, 3, 4, 5


def find_name(
    subject: Subject, sets: Sequence[Sequence[Glob]], wanted: Callable[[Sequence[bool]], Maybe]
) -> str | None:
    """Return the shortest name that is, or may be, ``wanted``; None where there can be none.

    ``sets`` are unions of globs. ``wanted`` is asked with one truth for each of them.
    """
    machines = [Machine(globs) for globs in sets]
    characters = _told_apart(subject, machines)
    begin = (0, *(machine.start for machine in machines))
    known = {begin}
    names = [(begin, "")]
    for state, name in names:  # grows while it is read: the shortest names first
        grammar, *states = state
        if _ends(subject, grammar):
            truths = [machine.accepts(at) for machine, at in zip(machines, states, strict=True)]
            if wanted(truths) is not False:
                return name
        for character in characters:
            after = _reads(subject, grammar, character)
            if after is None:
                continue
            moved = (
                after,
                *(machine.step(at, character) for machine, at in zip(machines, states, strict=True)),
            )
            if moved not in known:
                known.add(moved)
                names.append((moved, name + character))
        if len(known) > MOST_STATES:
            return name
    return None


def _told_apart(subject: Subject, machines: Sequence[Machine]) -> list[str]:
    """Return one character for all that are alike to the grammar and to every machine."""
    sets = [*chain.from_iterable(machine.sets for machine in machines), *_grammar_sets(subject)]
    alike: dict[tuple[bool, ...], str] = {}
    for character in sorted(subject.value):
        alike.setdefault(tuple(character in each for each in sets), character)
    return sorted(alike.values())


def _grammar_sets(subject: Subject) -> Iterator[frozenset[str]]:
    if subject is Subject.TAG:
        yield frozenset(".-")
    else:
        yield from (_ALNUM, *map(frozenset, "._-/"))


def _reads(subject: Subject, state: int, character: str) -> int | None:
    """Return the grammar's next state, None where no name goes on so (``indexer.oci.reference``)."""
    if subject is Subject.TAG:
        return None if state == 0 and character in ".-" else 1
    if character in _ALNUM:
        return _WORD
    return {
        (_WORD, "."): _DOT,
        (_WORD, "_"): _SCORE,
        (_SCORE, "_"): _SCORES,
        (_WORD, "-"): _DASH,
        (_DASH, "-"): _DASH,
        (_WORD, "/"): 0,
    }.get((state, character))


def _ends(subject: Subject, state: int) -> bool:
    """Tell whether a name may end in a state of the grammar."""
    return state == (1 if subject is Subject.TAG else _WORD)
