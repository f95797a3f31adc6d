# SPDX-License-Identifier: MIT
"""User-Mode Linux: a kernel that is a process of the host and runs at its speed. Made from Debian's sources of 6.1.

It has one processor, is never preempted, and a system call of its programs takes it some 70 us (ptrace). Its
kernel_fpu_begin() does nothing. Needs no privileges.
"""
import os
import pathlib
import signal
import subprocess

from . import cache

PACKAGE = "linux-source-6.1"
CONFIG = pathlib.Path(__file__).resolve().parent.parent / "uml.config"


def tree() -> pathlib.Path:
    """The sources, built: there is the kernel, `linux`, and what modules are built against."""

    def make(path: pathlib.Path) -> None:
        cache.need("apt-get", "dpkg-deb", "make", "gcc", "flex", "bison", "bc", "xz")
        path.mkdir()
        cache.run(["apt-get", "-q", "download", PACKAGE], cwd=path)
        package = next(path.glob("*.deb"))
        cache.run(["dpkg-deb", "-x", package, path])
        package.unlink()
        archive = path / f"usr/src/{PACKAGE}.tar.xz"
        cache.run(["tar", "-C", path, "--strip-components=1", "-xf", archive])
        archive.unlink()
        # KBUILD_BUILD_*: nothing of this machine goes into it.
        kbuild = ["make", "-C", path, "ARCH=um", "KBUILD_BUILD_USER=vexfs", "KBUILD_BUILD_HOST=vexfs"]
        cache.run([*kbuild, f"KCONFIG_ALLCONFIG={CONFIG}", "allnoconfig"])
        cache.run([*kbuild, f"-j{os.cpu_count()}", "linux", "modules"])

    version = cache.run(["apt-cache", "show", "--no-all-versions", PACKAGE])
    name = f"uml-{cache.digest(version, CONFIG)}"
    built = cache.build_once(name, f"building User-Mode Linux from {PACKAGE} (5 minutes, 1.6 GB)", make)
    cache.prune("uml-*", 2)
    return built


def _memory_directory() -> str:
    """Where its memory, a file of 1 GB that must be executable, can lie: $UML_MEMORY, else /dev/shm, else $TMPDIR or /tmp."""
    wanted = os.environ.get("UML_MEMORY")
    for path in [wanted] if wanted else ["/dev/shm", os.environ.get("TMPDIR") or "/tmp"]:
        try:
            found = os.statvfs(path)
        except OSError:
            continue
        if not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize > 1 << 30:
            return path
    raise cache.VmError("no directory with 1 GB for the memory of User-Mode Linux that programs may run from: name one in UML_MEMORY")


def run(kernel: pathlib.Path, scratch: pathlib.Path, disk: pathlib.Path, script: str, timeout: float) -> str:
    """Boots `kernel`, sees the host's files (read-only) and `disk` as /dev/ubda, runs the bash script as process 1, and
    returns what it and the kernel said. The script's /proc, /sys and /dev are there; a failing command of it is a VmError."""
    init = scratch / "init"
    off = "import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)"
    init.write_text(f"""#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
if bash -e -s <<'END_OF_SCRIPT'
{script}
END_OF_SCRIPT
then echo "uml: all done"; fi
exec python3 -c '{off}'
""")
    init.chmod(0o755)
    command = [kernel, "mem=1G", f"ubd0={disk}", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}", "con=null",
               "con0=fd:0,fd:1", "ssl=null", "quiet"]
    env = {**os.environ, "TMPDIR": _memory_directory()}
    with subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", env=env, start_new_session=True) as uml:
        try:
            said, _ = uml.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(uml.pid, signal.SIGKILL)
            said, _ = uml.communicate()
            raise cache.VmError(f"User-Mode Linux was not done after {timeout:.0f} seconds:\n{said}") from None
        except BaseException:
            os.killpg(uml.pid, signal.SIGKILL)
            raise
    if "uml: all done" not in said:
        raise cache.VmError(f"in User-Mode Linux something failed:\n{said}")
    return said
