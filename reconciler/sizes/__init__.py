"""Sizes of repositories."""
