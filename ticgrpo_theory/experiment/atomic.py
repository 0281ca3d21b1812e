"""Files that are whole at any moment: the process killed, the disk full, a write cut short."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


def replace_files(files: Mapping[Path, bytes]) -> None:
    """Each file holds its old or its new bytes at any moment; all new ones are on disk before one changes.

    All lie in one folder, which is made where it is missing. One process at a time replaces files there, so
    the temporary names are fixed, and what a killed process left under them is overwritten by the next.
    """
    (folder,) = {path.parent for path in files}
    parts = {path: _part(path) for path in files}
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


def check_writable(folder: Path, option: str) -> None:
    """Raise ValueError before the computation where its results could not be written at the end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"{option} = {folder} cannot be written ({error.strerror}): name another folder with --{option}"
        ) from error


def remove(path: Path) -> None:
    """Remove a file that `replace_files` wrote, and what a process killed in the middle of it left."""
    for file in (_part(path), path):
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which is made and removed again; BlockingIOError where another process does.

    The kernel lets go when the process dies; the file that is left then is taken over by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_open_at(descriptor, path):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner removed the file between our two steps: a lock on nothing
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # hides no result: a lock file that stays locks nobody out
            path.unlink()
        os.close(descriptor)


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


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
