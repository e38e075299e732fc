"""The registry's storage, read beside the registry: what lies there, what it is worth, and whether it is whole.

``layout`` says what a path means, ``objects`` reads. Every verb asks ``canary`` first whether it is this registry's.
"""
