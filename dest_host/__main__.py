"""``python -m dest_host`` is ``dest-host``."""

from dest_host.cli import main

if __name__ == "__main__":
    main()
