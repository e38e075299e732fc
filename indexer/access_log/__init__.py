"""The registry's own log of requests, read for what notifications do not tell: who was refused, and what failed."""
