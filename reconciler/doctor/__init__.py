"""``reconciler doctor``: finds the first step between a push and its listing that fails.

A push becomes visible only if every step works, from the registry's configuration to our listing. The doctor tests the
steps (``Link``) in order. Then it pushes a canary and follows it: notification, inventory, verification, listing,
deletion. It names the first step that fails, with its likely causes and what to do.

``observe`` and ``canary`` send requests and return ``facts``; ``decide``, ``endpoints``, ``pulls``, ``silence`` and
``chain`` judge them (pure, tested by tables); ``examination`` calls them in order; ``present`` prints. No secret is
ever part of a result.
"""
