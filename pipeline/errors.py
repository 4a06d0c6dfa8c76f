"""The ways input can be wrong."""

from __future__ import annotations

import errno

STORAGE_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""What a disk, or a path that names something else than is there, may answer."""


class InputError(Exception):
    """Something the user gave cannot be used; the message says what to do about it."""


class MediaError(InputError):
    """One media file cannot be read; other files are unaffected."""


class Terminated(BaseException):
    """The system asked this process to end; like Ctrl-C, it is no error to be caught."""
