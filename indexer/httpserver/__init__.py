"""What a connection may hold before anybody knows who asks: bytes and seconds of a head, and connections themselves.

Paths, tokens and answers are not of this package; it knows aiohttp's protocol and nothing above it.
"""
