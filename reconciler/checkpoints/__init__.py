"""The newest checkpoint of the audit log, kept in the registry itself as an artifact.

``artifact`` makes it of what was signed, ``decide`` says whether it is pushed, ``push`` does so, ``loop`` knows when.
"""
