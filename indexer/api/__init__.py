"""The read APIs over HTTP.

``v1`` is our own API, ``gitlab`` the registry API that GitLab's client speaks, ``oci`` two endpoints of the OCI
distribution specification. In ``v1`` each resource has a file: it reads a request into a model, calls the store once or
twice, and serializes the result. What they share is here: authentication (``auth``), parameters and paths of a request
(``parameters``, ``paths``), cursors (``pagination``), responses (``responses``), errors (``problems``), and the
document that describes them (``openapi``). Nothing here contains SQL or changes data.
"""
