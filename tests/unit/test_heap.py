"""Large blocks go back to the system as soon as they are free, where the C library can be told so."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from indexer.common.heap import give_back_large_blocks

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
if sys.argv[1] == "told":
    give_back_large_blocks()
large = bytearray(20 * 1024 * 1024)
del large  # from now on glibc takes up to as much from its heap
before = mallinfo().hblks
large = bytearray(16 * 1024 * 1024)
print(mallinfo().hblks - before)
"""


def mapped(word: str, **environment: str) -> str:
    """How many more blocks are mapped apart once a large one was freed and another is asked for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, word]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=kept | environment
    ).stdout.strip()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not a glibc that tells of its heap")
def test_heap__large_blocks_are_mapped() -> None:
    """A block that is large is mapped apart, also after a larger one was freed; an operator's own setting stands."""
    assert mapped("told") == "1"
    assert mapped("untold") == "0"
    assert mapped("told", MALLOC_MMAP_THRESHOLD_="33554432") == "0"
