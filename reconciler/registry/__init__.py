"""The Distribution HTTP API as the reconciler speaks it: the only code that talks to the registry.

``protocol`` says what loops may ask, ``answers`` what they get. ``client`` is the registry as loops see it;
``transport`` owns connections, deadlines, retries and the translation of failures; ``auth`` answers
challenges; ``catalog``, ``tags``, ``manifests`` and ``blobs`` each speak one noun. What an answer means for
the inventory is not decided here.
"""
