"""The parts of ``store/apply``: what a transaction holds, what changes come to, and how they are written."""
