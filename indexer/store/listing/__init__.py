"""Reading what is asked for: pages of every noun, by keyset, and the details of one thing.

Here lives what builds a statement from a caller's sort and filters; it binds every value and takes column
names only from its own tables of sort keys. Nothing here writes. ``keyset`` knows order, ``statement`` knows
binding, ``walk`` fetches a page; one module per noun knows its columns, sort keys and filters.
"""
