"""The command line of ``indexer``: a file for each group of verbs. Each verb imports only what it needs."""
