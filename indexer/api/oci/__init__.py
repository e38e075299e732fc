"""What the OCI distribution spec 1.1 offers under ``/v2`` and a registry lacks or does badly.

Two questions of it, answered from the inventory: the referrers of a manifest, which no release of Distribution can
answer, and the names of a repository's tags, which 2.8 neither sorts nor pages. A proxy leads these two here and
everything else to the registry; nothing else of ``/v2`` is answered, and nothing is written.
"""
