"""Resolves manifests: reads each one, and an image's config, once, by its digest."""
