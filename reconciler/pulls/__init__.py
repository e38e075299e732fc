"""Whether the registry announces pulls."""
