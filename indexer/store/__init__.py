"""PostgreSQL. No other package knows SQL.

A pair of files per resource: ``sql/<resource>.sql`` has the statements, each under a name and a line of purpose;
``<resource>.py`` has a function of the same name for each: connection first, the rest by keyword, a frozen record back.
The caller opens the transaction. ``apply`` is the only way to change the inventory.
"""
