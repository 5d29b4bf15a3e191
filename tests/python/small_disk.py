"""A file system of a few megabytes that a test fills and frees."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs mounted on a directory. Skips the test where that is not permitted."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._ballast = folder / "ballast"
        options = f"size={megabytes}m,mode=0755"
        try:
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
            )
        except FileNotFoundError:
            pytest.skip("there is no mount command here")
        if mounted.returncode != 0:
            pytest.skip(f"mounting a file system is not permitted here: {mounted.stderr.strip()}")

    def free(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int) -> None:
        """Takes all but `leave` bytes."""
        self.release()
        size = self.free() - leave
        assert size > 0, f"only {self.free()} bytes are free, cannot leave {leave}"
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def release(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)
