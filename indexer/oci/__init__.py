"""Values of the OCI and Docker specifications: digest, reference, media types, descriptor, manifest, platform.

Pure: bytes and text go in, frozen values or a ``ValueError`` come out. No I/O, no clock, no logger.
"""
