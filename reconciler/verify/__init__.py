"""Verifies tags: observes a tag that an event named, further apart each time, until two observations in a row agree."""
