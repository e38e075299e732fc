"""Measures repositories."""
