"""Traces of written pages: which pages a process or a virtual machine wrote, window by window."""
