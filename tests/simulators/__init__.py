"""The other side, simulated: a registry whose state, bugs and failures a test sets at will.

``state`` is the registry's storage and its rules, ``events`` what it tells, ``registry`` serves both over
HTTP, ``direct`` answers the reconciler's protocol without HTTP. Every behaviour is one that was measured on
Distribution 2.8.2 or 3.1.1; ``tests/contract`` holds simulator and real registries to one suite.
"""
