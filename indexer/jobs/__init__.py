"""Jobs: what was asked for, by whom, and what becomes of it. Pure: no I/O, no clock."""
