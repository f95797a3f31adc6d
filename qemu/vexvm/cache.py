# SPDX-License-Identifier: MIT
"""Things that are built once and kept: found by the hash of what they are made from."""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys


class VmError(Exception):
    """Something outside the guest went wrong; the text is for the user."""


def directory() -> pathlib.Path:
    """Where everything is kept: $VEXFS_CACHE, or vexfs in the user's cache directory."""
    chosen = os.environ.get("VEXFS_CACHE")
    if not chosen:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        chosen = os.path.join(base, "vexfs")
    path = pathlib.Path(chosen)
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(*parts) -> str:
    """A short hash over strings, bytes and the contents of files given as paths."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, pathlib.Path):
            part = part.read_bytes()
        elif isinstance(part, str):
            part = part.encode()
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()[:16]


@contextlib.contextmanager
def locked(name: str):
    """Holds the lock `name` across processes."""
    with open(directory() / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_once(name: str, what: str, make) -> pathlib.Path:
    """The cached path `name`; make(path) creates it first (a file or a directory) when it is not there.

    Another process that wants the same waits. What make() leaves unfinished is never seen under the final name.
    """
    final = directory() / name
    if final.exists():
        os.utime(final)
        return final
    with locked(name):
        if final.exists():
            return final
        partial = directory() / f"{name}.partial"
        if partial.is_dir():
            shutil.rmtree(partial)
        elif partial.exists():
            partial.unlink()
        print(f"qemu: {what}", file=sys.stderr, flush=True)
        make(partial)
        partial.rename(final)
    return final


def prune(pattern: str, keep: int) -> None:
    """Removes the entries that match, except the `keep` used last."""
    entries = [path for path in directory().glob(pattern) if path.suffix not in (".lock", ".partial")]
    entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[keep:]:
        shutil.rmtree(path, ignore_errors=True)
        (directory() / f"{path.name}.lock").unlink(missing_ok=True)


def run(command, **options) -> str:
    """Runs a program and returns its output; a failure becomes a VmError with everything it said."""
    env = dict(os.environ)
    env["PATH"] = env.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", env=env, check=False, **options)
    if done.returncode != 0:
        raise VmError(f"{command[0]} failed with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def need(*programs: str) -> None:
    """Fails with a helpful text when a program is missing."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    missing = [name for name in programs if shutil.which(name, path=path) is None]
    if missing:
        raise VmError(f"not installed: {', '.join(missing)} (make deps installs everything)")
