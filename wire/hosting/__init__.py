"""What every host is made of: its settings, its process, how it serves and is watched."""
