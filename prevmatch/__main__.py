"""`python -m prevmatch`, for launchers that take a module."""

from prevmatch.cli import main

if __name__ == "__main__":
    main()
