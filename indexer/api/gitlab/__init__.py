"""GitLab's contract, ``/gitlab/v1``: what GitLab's own registry fork answers, from our inventory.

``door`` turns requests into calls, asks for the grants of each, and words every refusal as the fork does. ``paths``,
``parameters``, ``markers`` and ``links`` hold the rules of questions, ``present`` makes the bodies: all pure.
``repositories``, ``tags`` and ``statistics`` answer, each with a question or two to the store. Section numbers are
those of the contract that GitLab's client and the fork keep (see docs/reference/gitlab.md).
"""
