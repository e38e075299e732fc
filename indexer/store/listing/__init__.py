"""Reads for requests: pages of every resource, by keyset, and the details of one.

Statements are built from a caller's sort keys and filters: every value is bound, and column names come only from the
tables of sort keys here. Nothing here writes. ``keyset`` has the order, ``statement`` the binding, ``page_query``
fetches a page. A module per resource has its columns, sort keys and filters.
"""
