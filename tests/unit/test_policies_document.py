"""The file of policies: what is right is read, and everything that is wrong has its line and what would be right."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from indexer.policies.document import read_policies
from indexer.policies.problems import PoliciesRefused
from indexer.policies.rules import By, Mode, Policies, Previous, ProtectInUse, ProtectTags, owner_of
from indexer.policies.verdicts import Reason
from indexer.policies.yaml_tree import MAX_BYTES, MAX_DEPTH, read_tree

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "policies.md"
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def read(text: str) -> Policies:
    return read_policies(text.encode(), name="policies.yaml")


def refusals(text: str | bytes) -> list[str]:
    with pytest.raises(PoliciesRefused) as refused:
        read_policies(text if isinstance(text, bytes) else text.encode(), name="f")
    return str(refused.value).splitlines()


def policy(*lines: str) -> str:
    """A file with one policy: lines 1 to 4 are its head."""
    head = ["version: 1", "cleanup:", "  - id: a", '    scope: {repositories: {any: ["**"]}}']
    return "\n".join([*head, *(f"    {line}" for line in lines), ""])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0][:40])
def test_reference__examples_are_valid(example: str) -> None:
    """Every YAML example of the reference is read as it stands, or as a part of a policy."""
    if not example.startswith("version:"):
        indented = "".join(f"    {line}\n" for line in example.splitlines())
        example = f'version: 1\ncleanup:\n  - id: a\n    scope: {{repositories: {{any: ["**"]}}}}\n{indented}'
    read(example)


def test_reference__has_the_whole_file() -> None:
    """The reference shows one file with every section and key there is."""
    whole = next(example for example in EXAMPLES if "budget:" in example and example.startswith("version"))
    read_whole = read(whole)
    assert len(read_whole.cleanup) == 1
    first = read_whole.cleanup[0]
    assert (Mode.PREVIEW, timedelta(days=7), By.SEMVER) == (
        first.mode,
        first.orphans,
        first.keep[1].newest and first.keep[1].newest.by,
    )
    assert isinstance(first.protect[1], ProtectTags)
    assert first.protect[1].immutable
    assert isinstance(first.protect[2], ProtectInUse)
    assert [("rollback", 3)] == [
        (each.id, each.count) for each in first.previous if isinstance(each, Previous)
    ]
    assert read_whole.blocked[0].text == "Sun 03:00-04:00Z"


def test_reference__has_every_reason() -> None:
    """The table of reasons is the code's."""
    described = re.findall(
        r"^\| `((?:protect|grace|keep|live|delete|hold)\.\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert sorted(described) == sorted(Reason)


def test_defaults__keep() -> None:
    """What is not said is said safely: nothing goes, and every limit is on."""
    found = read(policy()).cleanup[0]
    assert (Mode.PREVIEW, (), None, None) == (found.mode, found.delete, found.untagged, found.orphans)
    assert (500, 0.1, 0.5, True) == (
        found.brake.tags, found.brake.share, found.brake.repository_share, found.brake.never_empty
    )  # fmt: skip
    assert timedelta(days=7) == found.undo.pending == found.undo.unlink_after == found.grace.restored


def test_file__without_policies() -> None:
    """All sections are optional; a file of a version alone is one."""
    assert () == read("version: 1\n").cleanup


def test_hash__is_of_the_bytes() -> None:
    """Bytes that mean the same are other bytes: what was approved was a text."""
    assert read("version: 1\n").sha256 != read("version: 1 \n").sha256


def test_scope__first_match_owns() -> None:
    """A repository belongs to the first policy whose scope has it, or to none."""
    found = read(
        'version: 1\ncleanup:\n  - {id: a, scope: {repositories: {any: ["x/**"]}}}\n'
        '  - {id: b, scope: {repositories: {any: ["**"], not: ["prod/**"]}}}\n'
    ).cleanup
    owners = [
        owner.id if (owner := owner_of(name, found)) else None for name in ("x/y", "y", "prod/a", "prod")
    ]
    assert ["a", "b", None, None] == owners


def test_scope__nobody_has_the_trash() -> None:
    """Copies of what one policy deleted are in no policy's scope, whatever it names; and nothing else is left out."""
    found = read(
        'version: 1\ncleanup:\n  - {id: a, scope: {repositories: {any: ["x/**"]}}, undo: {trash: old/bin}}\n'
        '  - {id: b, scope: {repositories: {any: ["**"]}}, undo: {trash: trash}}\n'
    ).cleanup
    names = ["old/bin/x/y", "trash/y", "trash/x/y", "x/trash/y", "trash", "old", "trashy/x"]
    owners = [owner.id if (owner := owner_of(name, found)) else None for name in names]
    assert [None, None, None, "a", None, "b", "b"] == owners
    assert ["old/bin", "trash"] == [each.undo.trash for each in found]
    assert read(policy("undo: {trash: off}")).cleanup[0].undo.trash is None


CORE = "version: 1\ncleanup:\n  - {id: on, mode: preview, scope: {repositories: {any: [no, off, y]}}}\n"


def test_yaml__is_1_2() -> None:
    """on, off, no and y are texts, as YAML 1.2 has them."""
    found = read(CORE).cleanup[0]
    assert ("on", True, True) == (found.id, found.scope.matches("no"), found.scope.matches("off"))


YAML: list[tuple[str | bytes, str]] = [
    ("", "f:1: version: is missing: write version: 1"),
    ("# nothing\n", "f:1: version: is missing"),
    ("- a\n", "f:1: a file of policies is a mapping"),
    ("version: 2\n", "f:1: version: must be 1, as a number; this program reads no other; got 2"),
    ("version: 1.0\n", "f:1: version: must be 1"),
    ("version: true\n", "f:1: version: must be 1"),
    ('version: "1"\n', "f:1: version: must be 1, as a number; this program reads no other; got '1'"),
    ("version: 1\nversion: 1\n", "f:2: version is given twice, first in line 1"),
    (
        policy("grace: {pushed: 1d, moved: 1d,", "  pushed: 2d}"),
        "f:6: pushed is given twice, first in line 5",
    ),
    ("version: 1\na: &x [1]\n", "f:2: &x: anchors are not taken"),
    ("version: 1\na: *x\n", "f:2: *x: aliases are not taken"),
    ("version: !!int 1\n", "f:1: tag:yaml.org,2002:int: tags are not taken"),
    ("version: 1\n<<: {a: 1}\n", "f:2: <<: merging is not YAML 1.2"),
    ("version: 1\n? [a]\n: 1\n", "f:2: a key is a text, not a list or a mapping"),
    ("version: 1\n---\nversion: 1\n", "f:2: a second document begins here"),
    ("%YAML 1.1\n---\nversion: 1\n", "f:1: %YAML 1.1: the file is read as YAML 1.2"),
    ("version: 1\ncleanup: [\n", "f:3: not YAML:"),
    ("version: 1\n\tcleanup: []\n", "f:2: not YAML:"),
    (b"version: 1\n# \xff\n", "f:2: byte 13 is not UTF-8"),
    (b"#" * (MAX_BYTES + 1), f"f:1: the file has more than {MAX_BYTES} bytes"),
    ("a: " + "[" * (MAX_DEPTH + 1), f"f:1: nested more than {MAX_DEPTH} deep"),
    ("[" * 200_000, "f:1: nested more than"),
    ("- " * 100_000, "f:1: nested more than"),
]


@pytest.mark.parametrize(("text", "said"), YAML, ids=lambda value: repr(value)[:40])
def test_yaml__refused(text: str | bytes, said: str) -> None:
    """What is no YAML, or more of it than policies need, is refused at its line, whatever its size."""
    assert [line for line in refusals(text) if line.startswith(said)], refusals(text)


BOMB = 'a: &a ["x","x"]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n'


def test_yaml__a_bomb_is_not_unfolded() -> None:
    """Aliases that unfold to gigabytes are refused where the first one is defined."""
    assert ["f:1: &a: anchors are not taken; write it out where it is needed"] == refusals(BOMB)


MODEL = [
    (policy("modus: preview"), 5, "cleanup.a.modus: there is no such key; mode is probably meant. Here may stand: id,"),
    (policy("xyz: 1"), 5, "cleanup.a.xyz: there is no such key. Here may stand"),
    (policy("mode: off"), 5, "cleanup.a.mode: must be one of preview, propose, enforce; got off"),
    (policy("grace: {pushed: 24}"), 5, "cleanup.a.grace.pushed: a duration needs a unit"),
    (policy("grace: 24h"), 5, "cleanup.a.grace: must be a mapping: keys with values; got 24h"),
    (policy("use: {pull_classes: [node]}"), 5, "cleanup.a.use.pull_classes: there is no such key"),
    (policy("use: {ignore: {addresses: [10.0.0.300]}}"), 5, "cleanup.a.use.ignore.addresses[0]: '10.0.0.300'"),
    (policy("use: {ignore: {addresses: [10.0.0.1/8]}}"), 5, "has host bits set"),
    (policy("keep: {id: b}"), 5, "cleanup.a.keep: must be a list"),
    (policy("keep:", "  - {id: b}"), 6, "cleanup.a.keep.b: a rule of keep has at least one of"),
    (policy("keep:", "  - tags: {glob: [a]}"), 6, "cleanup.a.keep[0]: id is missing"),
    (policy("keep:", "  - {id: B, tags: {glob: [a]}}"), 6, "cleanup.a.keep.B.id: must be lower-case letters"),
    (policy("keep: [{id: 17, tags: {glob: [a]}}]"), 5, 'cleanup.a.keep[0].id: 17 is read as a number: write "17"'),
    (policy("keep: [{id: b, tags: {names: [1.10]}}]"), 5, 'names[0]: 1.10 is read as a number: write "1.10"'),
    (policy("keep: [{id: b, tags: {names: [123e456]}}]"), 5, '123e456 is read as a number: write "123e456"'),
    (policy("keep: [{id: b, tags: {names: [0o17]}}]"), 5, '0o17 is read as a number: write "0o17"'),
    (policy("keep: [{id: b, tags: {names: [true]}}]"), 5, 'true is read as true or false: write "true"'),
    (policy("keep: [{id: b, tags: {names: [2026-01-31]}}]"), 5, 'is read as a date by many programs: write "2026-'),
    (policy("keep: [{id: b, tags: {names: [null]}}]"), 5, "must be a text; got nothing"),
    (policy("keep: [{id: b, tags: {names: [{}]}}]"), 5, "must be a text; got a mapping"),
    (policy("keep: [{id: b, tags: {names: ['x*']}}]"), 5, "no tag is called 'x*'"),
    (policy("keep: [{id: b, tags: {names: []}}]"), 5, "names: must be a list that names at least one"),
    (policy("keep: [{id: b, tags: {glob: ['a/b']}}]"), 5, "glob[0]: '/' in a/b matches nothing"),
    (policy("keep: [{id: b, tags: {regex: '('}}]"), 5, "tags.regex: missing )"),
    (policy("keep: [{id: b, tags: {regex: '/x'}}]"), 5, "tags.regex: /x matches no tag"),
    (policy("keep: [{id: b, tags: {semver: '1.x'}}]"), 5, "tags.semver: '1.x' is no comparison"),
    (policy("keep: [{id: b, tags: {glob: [a], regex: b}}]"), 5, "not by glob and regex together"),
    (policy("keep: [{id: b, tags: {not: {glob: [a]}}}]"), 5, "not by none of them"),
    (policy("keep: [{id: b, newest: {count: 0}}]"), 5, "newest.count: must be at least 1; got 0"),
    (policy("keep: [{id: b, newest: {count: '3'}}]"), 5, "newest.count: must be a whole number; got 3"),
    (policy("keep: [{id: b, newest: {count: 3, by: name}}]"), 5, "by: must be one of pushed, pulled, semver; got name"),
    (policy("keep: [{id: b, newest: {count: 3, among: x}}]"), 5, "among: must be one of matched, deletable; got x"),
    (policy("keep: [{id: b, newest: {count: 3, by: semver}}]"), 5, "newest by semver needs tags: {semver:"),
    (policy("keep: [{id: b, newest: {count: 3, per: [x]}}]"), 5, "per needs tags: {regex:"),
    (policy("keep: [{id: b, newest: {count: 3, prereleases: separate}}]"), 5, "prereleases is said of versions only"),
    (policy("keep: [{id: b, tags: {regex: '(?P<x>.)'}, newest: {count: 3, per: [y]}}]"), 5, "no group y: there are x"),
    (policy("keep: [{id: b, tags: {glob: [a]}, previous: {of: [a], count: 1}}]"), 5, "previous stands alone"),
    (policy("protect: [{id: b, tags: {glob: [a]}, hold: any}]"), 5, "one of tags, in_use and hold"),
    (policy("protect: [{id: b, hold: any, immutable: true}]"), 5, "immutable is said of tags"),
    (policy("protect: [{id: b, in_use: {source: any, max_age: 48h}}]"), 5, "max_age: there is no such key"),
    (policy("delete: [{id: b}]"), 5, "a rule of delete says which tags"),
    (policy("delete: [{id: untagged, tags: {glob: [a]}}]"), 5, "untagged is what verdicts call other deletions"),
    (policy("delete: [{id: b, tags: {glob: [a]}, older: 3d}]"), 5, "older: must be a mapping: keys with values; got"),
    (policy("untagged: {delete: {older: {}}}"), 5, "older has untagged, pushed or both"),
    (policy("untagged: {delete: {}}"), 5, "cleanup.a.untagged.delete: older is missing"),
    (policy("untagged: {delete: {older: {untagged: 1d}}, keep: [{}]}"), 5, "what stays has at least one of"),
    (policy("referrers: {follow: nobody}"), 5, "referrers.follow: must be subject; got nobody"),
    (policy("brake: {share: 0.1}"), 5, "brake.share: a share is a percentage"),
    (policy("brake: {tags: -1}"), 5, "brake.tags: must be at least 0; got -1"),
    (policy("brake: {never_empty: 'yes'}"), 5, "must be true or false, without quotes; got yes"),
    (policy("brake: {never_empty: yes}"), 5, "must be true or false, without quotes; got yes"),
    (policy("brake: {bytes: 5GB}"), 5, "brake.bytes: a size is a number of bytes"),
    (policy("brake: {changed_policy: needs_approval}"), 5, "changed_policy: there is no such key"),
    (policy("undo: {trash: on}"), 5, "undo.trash: trash is off, or the name below which copies of deleted manifests"),
    (policy("undo: {trash: true}"), 5, "with trash, those of team/app lie in trash/team/app; got True"),
    (policy("undo: {trash: Trash}"), 5, "undo.trash: trash is off, or the name"),
    (policy("undo: {trash: a/}"), 5, "undo.trash: trash is off, or the name"),
    (policy(f"undo: {{trash: {'a' * 65}}}"), 5, "of at most 64 characters"),
    (policy("undo: {trash: }"), 5, "undo.trash: trash is off, or the name"),
    (policy("run: {rate: 5}"), 5, "run.rate: a rate is a number and a unit of time"),
    (policy("run: {window: weekends}"), 5, "run.window: a window is like"),
    ("version: 1\nblocked:\n  - never\n", 3, "blocked[0]: a window is like"),
    ("version: 1\ncollection: {grace: 1s}\n", 2, "collection.grace: must be 2s or more"),
    ("version: 1\ncollection: {manifests: all}\n", 2, "must be one of never, heal, free; got all"),
    ("version: 1\nin_use: {sources: []}\n", 2, "in_use.sources: must be a list that names at least one"),
    ("version: 1\ncleanup: [{id: a}]\n", 2, "cleanup.a: scope is missing"),
    ("version: 1\ncleanup: [{id: a, scope: {repositories: {any: [A]}}}]\n", 2, "'A' in A matches nothing"),
    ("version: 1\nsurprise: 1\n", 2, "surprise: there is no such key"),
    *((f"version: 1\n{section}: []\n", 2, f"{section}: this version of the program cannot run")
      for section in ("verify", "scan", "gates", "replicate")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "said"), MODEL, ids=lambda value: str(value)[-60:])
def test_model__refused(text: str, line: int, said: str) -> None:
    """What may not stand there is refused with its line, its place, and what would be right; and nothing else is."""
    found = refusals(text)
    assert 1 == len(found), found
    assert found[0].startswith(f"f:{line}: ")
    assert said in found[0]


TWO = """version: 1
cleanup:
  - {{id: a, scope: {{repositories: {{any: {}}}}}}}
  - {{id: b, scope: {{repositories: {{any: {}}}}}}}
"""
CHECKS = [
    (TWO.format("['**']", "[team/*]"), 4, "cleanup.b.scope: never has a repository: the first policy that matches"),
    (TWO.format("['team/**']", "[team/*, team/x/**]"), 4, "and before it a (line 3) has all of them; put b first"),
    (TWO.format("[a]", "[b]").replace("id: b", "id: a"), 4, "another one is called a, in line 3"),
    ("version: 1\ncleanup: [{id: a, scope: {repositories: {any: [x], not: ['*']}}}]\n", 2, "no repository is in it"),
    (policy("keep: [{id: b, tags: {glob: [x], not: {glob: ['*']}}}]"), 5, "no tag is chosen by it"),
    (policy("keep: [{id: b, tags: {all: [{glob: ['a*']}, {glob: ['b*']}]}}]"), 5, "no tag is chosen by it"),
    (policy("keep: [{id: b, newest: {count: 1, among: {glob: [x], not: {glob: [x]}}}}]"), 5, "no tag is chosen by it"),
    (policy("keep: [{id: b, hold: any}]"), 5, "hold: there is no such key"),
    (policy("protect: [{id: b, hold: any}]", "keep: [{id: b, pulled: {within: 1d}}]"), 6, "another rule of this"),
    (policy("protect: [{id: p, tags: {names: [latest]}}]", "delete: [{id: d, tags: {glob: [latest]}}]"), 6,
     "can never delete anything: p always keeps every tag that it chooses"),
    (policy("protect: [{id: p, tags: {glob: ['a*']}}]", "keep: [{id: k, tags: {glob: ['b*']}}]",
            "delete: [{id: d, tags: {glob: ['[ab]*']}}]"), 7, "p and k always keep every tag"),
    (policy("budget: {bytes: 1GiB}"), 5, "takes only what a rule of delete chooses"),
    ("version: 1\nin_use:\n  sources:\n    - {id: a}\n    - {id: a}\n", 5, "another one is called a, in line 4"),
    (policy("delete: [{id: d, repositories: {any: [y]}, tags: {glob: [z]}}]").replace("**", "x/**"), 5,
     "none of them is in the scope of a"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "said"), CHECKS, ids=lambda value: str(value)[-60:])
def test_checks__refused(text: str, line: int, said: str) -> None:
    """What fits the models and can never have an effect is refused with its line."""
    found = refusals(text)
    assert 1 == len(found), found
    assert found[0].startswith(f"f:{line}: ")
    assert said in found[0]


CERTAIN = [
    TWO.format("['team/*']", "['team/**']"),
    policy("protect: [{id: p, tags: {glob: ['v*']}}]", "delete: [{id: d, tags: {glob: ['*']}}]"),
    policy(
        "keep: [{id: k, tags: {glob: ['*']}, pulled: {within: 1d}}]", "delete: [{id: d, tags: {glob: ['*']}}]"
    ),
    policy(
        "keep: [{id: k, repositories: {any: [x]}, tags: {glob: ['*']}}]",
        "delete: [{id: d, tags: {glob: ['*']}}]",
    ),
    policy("keep: [{id: k, tags: {regex: '.*'}}]", "delete: [{id: d, tags: {glob: ['*']}}]"),
]


@pytest.mark.parametrize("text", CERTAIN)
def test_checks__only_what_is_certain(text: str) -> None:
    """What may have an effect is taken."""
    read(text)


def test_problems__are_all_named() -> None:
    """Everything that is wrong is said at once, in the order of lines."""
    found = refusals(policy("mode: off", "brake: {share: 1}", "run: {rate: 1}") + "gates: []\n")
    assert [5, 6, 7, 8] == [int(line.split(":")[1]) for line in found]


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "indexer", "policies", "check", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command__check(tmp_path: Path) -> None:
    """`indexer policies check` is 0 for a file that holds, 1 with file and line for others, 64 where there is none."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(policy())
    bad.write_text(policy("mode: off"))
    done = check(good)
    assert (0, f"{good}: valid; cleanup policies: a (preview)\n") == (done.returncode, done.stdout)
    done = check(bad)
    assert (1, True) == (done.returncode, done.stdout.startswith(f"{bad}:5: cleanup.a.mode: must be one of"))
    done = check(bad, "--json")
    assert '"line": 5, "key": "cleanup.a.mode"' in done.stdout
    done = check(tmp_path / "none.yaml")
    assert (64, "") == (done.returncode, done.stdout)
    assert "cannot be read: No such file" in done.stderr


def test_tree__has_the_line_of_everything() -> None:
    """Keys and values know where they stand."""
    tree = read_tree(b"a: 1\nb:\n  - x\n  - c:\n      d\n")
    inner = tree.child("b")
    assert inner is not None
    assert (1, 2, 4) == (tree.line_of("a"), tree.line_of("b"), inner.line_of(1))
