"""The client of the Distribution HTTP API: the only code that sends requests to the registry.

``protocol`` declares the requests, ``answers`` their results; ``client`` implements them over HTTP. ``catalog``,
``tags``, ``manifests`` and ``blobs`` each have the requests of one resource. ``transport`` sends one (``exchange``),
``failures`` says what its failure means, ``retrying`` repeats it, ``auth`` answers challenges. What an answer means for
the inventory is not decided here.
"""
