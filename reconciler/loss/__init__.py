"""What was lost between the registry and us: its counters held against ours, interval by interval.

Nothing here looks at content; what may be lost calls for a walk.
"""
