"""Recording which pages a running process, or the virtual machine in it, writes.

`attach` brings a userfaultfd out of the process, `tracker` protects its memory with it and asks
what was written, `recording` does so window by window. docs/recording.md says how it works and
what it costs.
"""
