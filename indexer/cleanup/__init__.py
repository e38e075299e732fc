"""Cleanup up to the plan: the file of policies in force, what it comes to, plans, and what it would have done before.

Nothing here asks the registry or changes it. ``reconciler.cleanup`` acts on what ``store.cleanup_plans`` says is due.
"""
