"""The command line of ``reconciler``: a file for each verb. Each verb imports only what it needs."""
