"""Errors of system calls by number, as constants that compiled code can take in."""

from __future__ import annotations

import errno

EINTR = errno.EINTR
EAGAIN = errno.EAGAIN
ENOENT = errno.ENOENT
ESRCH = errno.ESRCH
EINVAL = errno.EINVAL
EBADF = errno.EBADF
