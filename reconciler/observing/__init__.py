"""Observes tags: sends the requests, and concludes from the answers what is certain."""
