"""Reconciles the inventory with the registry, repository by repository.

``loop`` decides when a run begins, ``joining`` which run a process works at. ``run`` lists the repositories, ``worker``
takes them one by one, ``compare`` asks the registry about one, ``repair`` stores the differences, ``finishing`` makes
the deletions or, if the brake (``decide``) is pulled, reports them. ``plan`` compares and stores nothing.
"""
