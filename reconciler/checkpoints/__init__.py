"""Pushes the newest checkpoint of the audit log into the registry, as an OCI artifact.

``artifact`` makes the manifest, ``decide`` says whether to push it, ``push`` does, ``loop`` says when.
"""
