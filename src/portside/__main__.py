"""Run the command line with `python -m portside`."""

from portside.cli import main

main()
