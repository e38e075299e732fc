"""``reconciler doctor``: "I pushed and see nothing", answered link by link.

Nine tenths of all trouble with a sidecar is a chain broken somewhere between the registry's configuration and
our listing, and every piece of it says "not me". So each link is tried in order, and at last a canary is
pushed and followed: notification, inventory, verification, listing, deletion. The first broken link is named,
with its likely causes and what to do.

``observe`` and ``canary`` look (I/O) and bring back ``facts``; ``decide``, ``endpoints``, ``silence`` and
``chain`` judge them (pure, tested by tables); ``examination`` calls them in order; ``present`` prints. No
secret is ever part of a finding.
"""
