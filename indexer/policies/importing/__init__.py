"""Policies of other registries as files of policies: Harbor's retention, GitLab's cleanup, ECR's lifecycle.

A translation never deletes what the original keeps. What cannot be translated exactly keeps more, and a comment in the
file says so. Every file is in mode ``preview``, and our own limits (grace, brake, undo) come on top.
"""
