"""What the registry's own ``garbage-collect`` would do: computed from its storage, or read from its dry run.

``decide`` follows Distribution's registry/storage/garbagecollect.go step by step, in its versions 2.8 and 3.x;
``snapshot`` is what that reads, ``references`` what it reads in a manifest, ``hazards`` what it would damage. Nothing
here deletes anything.
"""
