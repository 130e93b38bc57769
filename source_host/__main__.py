"""`python -m source_host` is the command `source-host`."""

from source_host.cli import main

main()
