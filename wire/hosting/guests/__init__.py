"""The guests of a host: booted here or taken over, run, stepped, looked at, migrated, deleted."""
