"""Chaos: everything real, everything killed, and at the end everything equal.

``python3 dev.py chaos --seed N --minutes M`` runs it by hand; CI runs it for a moment.
"""
