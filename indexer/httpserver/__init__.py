"""Limits before authentication: bytes and seconds of a request's head, and the number of connections.

This package extends aiohttp's protocol. It knows nothing of paths, tokens and answers.
"""
