"""Files that are whole at any moment: the process killed, the disk full, a write cut short."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def replace_files(files: Mapping[Path, bytes]) -> None:
    """Each file holds its old or its new bytes at any moment; all new ones are on disk before one changes.

    All lie in one folder, which is made where it is missing. One process at a time replaces files there, so
    the temporary names are fixed, and what a killed process left under them is overwritten by the next.
    """
    (folder,) = {path.parent for path in files}
    parts = {path: path.with_name(path.name + ".part") for path in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder) as folder_descriptor:
            try:
                for path, data in files.items():
                    _write_durably(parts[path], data)
                for path, part in parts.items():
                    os.replace(part, path)
                os.fsync(folder_descriptor)
            finally:
                for part in parts.values():
                    with contextlib.suppress(OSError):  # hides no result: only the remains of a failed write
                        part.unlink(missing_ok=True)
    except OSError as error:
        names = ", ".join(path.name for path in files)
        raise OSError(
            error.errno,
            f"{error.strerror} while writing {names}; free space or choose another folder",
            str(folder),
        ) from error


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # the kernel lets go when the process dies
        yield descriptor
    finally:
        os.close(descriptor)


def _write_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        left = memoryview(data)
        while left:  # one call may write less than it was given, on a disk that is nearly full for instance
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
