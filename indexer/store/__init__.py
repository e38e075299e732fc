"""PostgreSQL. Nobody else knows SQL.

One file pair per noun: ``sql/<noun>.sql`` holds the statements, each under a name and a line of purpose;
``<noun>.py`` has one function of the same name for each, connection first, the rest by keyword, a frozen
record back. The caller opens the transaction. ``apply`` is the one door through which the inventory changes.
"""
