"""Asks the API: ``indexer tags``, ``repositories``, ``history``, ``changes``, ``manifests``, ``audit list``.

A question goes to a running server, or to the API in this process over a database. Either way it is one HTTP request
to the same code (``sources``), so answers and refusals are the same. The options of a verb are the parameters of the
API's own description (``options``). ``lists`` reads the pages, ``tables`` shows them to people.
"""
