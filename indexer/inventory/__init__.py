"""What is on record of the registry, and how evidence changes it.

Pure: records and evidence go in, changes come out. Every rule of precedence is here. No I/O, no SQL, no clock: time
comes in with the evidence. ``indexer.store.apply`` is the one place that writes what is decided here.
"""
