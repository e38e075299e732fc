"""``indexer`` on the command line, and ``python -m indexer``."""

from indexer.commands.main import main

if __name__ == "__main__":
    main()
