"""What the registry holds, and how evidence changes it.

Pure: records and evidence go in, changes come out, and every rule of precedence is here. No I/O, no clock
(the time comes in with the evidence), no SQL. ``indexer.store.apply`` is the one place that writes what is
decided here.
"""
