"""What the developer's script, the demo and the tests share: real registries, and images to push to them.

Standard library only, so that ``dev.py`` can use it before anything is installed. Not part of the product.
"""
