"""Deletes and restores tags of the registry, and puts back a push that our own request undid.

``decide``: what to conclude from what was seen. ``observe``: what the registry has. ``act``: the requests. ``settle``:
every action is followed until it is certain that it undid no push.
"""
