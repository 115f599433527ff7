"""`python -m fanbench`."""

from fanbench.cli import main

if __name__ == "__main__":
    main()
