"""``/gitlab/v1``: the API of GitLab's fork of the registry, answered from the inventory.

``handlers`` turns requests into calls, requires the grants of each, and words every error as the fork does. ``paths``,
``parameters``, ``markers`` and ``links`` have the rules of requests, ``serialize`` makes the bodies: all of these are
pure. ``repositories``, ``tags`` and ``statistics`` have the endpoints. Section numbers are those of the contract
between GitLab's client and the fork (see docs/reference/gitlab.md).
"""
