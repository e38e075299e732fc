"""Tags whose evidence is doubtful: look, look again further apart, until two looks agree with the record."""
