"""The client of the Distribution HTTP API: the only code that sends requests to the registry.

``protocol`` declares the requests, ``answers`` their results. ``client`` implements both over HTTP. ``transport`` has
connections, deadlines and the translation of failures, ``retrying`` repeats, ``auth`` answers challenges. ``catalog``,
``tags``, ``manifests`` and ``blobs`` each have the requests of one resource. What an answer means for the inventory is
not decided here.
"""
