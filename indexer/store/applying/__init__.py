"""The parts of ``store/apply``: what a transaction loads, changes by kind, and how they are written."""
