"""The door through which the registry tells us.

``endpoint`` makes a delivery durable and answers; ``envelope`` decodes it later; ``worker`` applies what was
decoded. Nothing here calls the registry, and nothing a client sent is trusted, linked or fetched.
"""
