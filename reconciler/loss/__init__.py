"""Finds events lost between the registry and us, interval by interval, by comparing the registry's counters with ours.

Only counters are read, no content. Where events may be lost, ``reconciler.drift`` begins a run.
"""
