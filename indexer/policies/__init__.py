"""The file of policies (``INDEXER_POLICIES_FILE``): what it may say, and what follows from it. Pure.

No clock, no network, no database: text and facts come in as values, verdicts go out as values, and every instant is
given. Here lives what a policy means; what it is applied to is read elsewhere, and so is acting on it.

    grammar, patterns, languages, selectors    what a text of the file means: durations, windows, globs, names
    yaml_tree, problems, document, checks      from bytes to a document, or to problems with their lines
    rules                                      the cleanup language as values
    facts, intervals, families                 what is known of a repository, when, and what refers to what
    cleanup, newest, verdicts, words           the verdict on every tag and manifest
    limits, freed, plans                       brake, budget, bytes; what a plan may do, and when
    importing                                  the policies of other registries, translated
"""
