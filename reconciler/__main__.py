"""``reconciler`` on the command line, and ``python -m reconciler``."""

from reconciler.commands.main import main

if __name__ == "__main__":
    main()
