"""The web page at ``/``: static files over ``/api/v1``, like any other client of it.

Here are the files of the page (``page``), the libraries it uses (``vendor``) and what serves them. No data passes
through here, and nothing here asks the database.
"""
