# SPDX-License-Identifier: MIT
"""What the guest boots from: the root disk, the disk of kernel modules, the initramfs and the payload."""
import gzip
import os
import pathlib
import shlex
import shutil
import tarfile
import tempfile

from . import cache
from .kernel import Kernel, boot_modules

QEMU_DIR = pathlib.Path(__file__).resolve().parent.parent
ROOT_SIZE = "2G"  # sparse; what the packages leave free is the guest's to fill


def _mke2fs(tree, image, size) -> str:
    # No journal: the disk is thrown away after every run. Lazy initialisation would write during the tests.
    return (f"mke2fs -q -t ext4 -O ^has_journal -m 0 -E lazy_itable_init=0,nodiscard -d {shlex.quote(str(tree))} "
            f"{shlex.quote(str(image))} {size}")


def _as_root(script: str) -> None:
    """Runs a shell script with files belonging to root, really or as far as it can tell."""
    command = ["sh", "-ec", script]
    if os.geteuid() != 0:
        cache.need("fakeroot")
        command = ["fakeroot", "--"] + command
    cache.run(command)


def root_disk(packages: list[str]) -> pathlib.Path:
    """The root file system as a raw ext4 image, made from Debian packages."""
    recipe = QEMU_DIR / "root-tree"
    key = cache.digest(recipe, QEMU_DIR / "packages.list", " ".join(sorted(packages)), ROOT_SIZE)

    def make(path: pathlib.Path) -> None:
        cache.need("mmdebstrap", "mke2fs")
        with tempfile.TemporaryDirectory(dir=cache.directory()) as scratch:
            os.chmod(scratch, 0o755)
            tree = pathlib.Path(scratch) / "tree"
            _as_root(f"export TMPDIR={shlex.quote(scratch)}\n"
                     f"{shlex.quote(str(recipe))} {shlex.quote(str(tree))} {shlex.join(packages)}\n"
                     + _mke2fs(tree, path, ROOT_SIZE))

    return cache.build_once(f"root-{key}.img", "building the root image from Debian packages", make)


def modules_disk(kernel: Kernel) -> pathlib.Path | None:
    """All modules of the kernel as a raw ext4 image, to be mounted at /lib/modules/RELEASE."""
    if kernel.modules is None:
        return None
    stamp = str((kernel.modules / "modules.dep").stat().st_mtime_ns)
    key = cache.digest(kernel.release, str(kernel.modules), stamp)

    def make(path: pathlib.Path) -> None:
        cache.need("mke2fs")
        used = sum(file.lstat().st_size for file in kernel.modules.rglob("*") if file.is_file())
        _as_root(_mke2fs(kernel.modules, path, f"{used * 5 // 4 // 2**20 + 64}M"))

    return cache.build_once(f"modules-{kernel.release}-{key}.img", f"packing the modules of {kernel.release}", make)


def _cpio_entry(name: str, mode: int, data: bytes, inode: int, rdev=(0, 0)) -> bytes:
    fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    header += b"\0" * (-len(header) % 4)
    return header + data + b"\0" * (-len(data) % 4)


def _busybox() -> pathlib.Path:
    def make(path: pathlib.Path) -> None:
        path.mkdir()
        cache.run(["apt-get", "-q", "download", "busybox-static"], cwd=path)
        archive = next(path.glob("*.deb"))
        cache.run(["dpkg-deb", "-x", archive, path])
        archive.unlink()

    base = cache.build_once("busybox", "fetching busybox-static", make)
    return next(path for path in (base / "bin/busybox", base / "usr/bin/busybox") if path.exists())


def initramfs(kernel: Kernel) -> pathlib.Path:
    """A compressed cpio archive: busybox, the drivers of the root disk, and the first two programs."""
    modules = boot_modules(kernel)
    scripts = [QEMU_DIR / "guest/initramfs-init", QEMU_DIR / "guest/vm-init"]
    key = cache.digest(kernel.release, *scripts, *(data for _, data in modules), *(name for name, _ in modules))

    def make(path: pathlib.Path) -> None:
        directories = ["bin", "dev", "proc", "sys", "modules", "newroot"]
        files = [("init", scripts[0].read_bytes()), ("vm-init", scripts[1].read_bytes()),
                 ("bin/busybox", _busybox().read_bytes()),
                 ("modules/order", "".join(name + "\n" for name, _ in modules).encode())]
        files += [("modules/" + name, data) for name, data in modules]
        entries = [(name, 0o040755, b"", (0, 0)) for name in directories]
        entries += [("dev/console", 0o020600, b"", (5, 1))]
        entries += [(name, 0o100755, data, (0, 0)) for name, data in files]
        archive = b"".join(_cpio_entry(name, mode, data, number + 1, rdev)
                           for number, (name, mode, data, rdev) in enumerate(entries))
        archive += _cpio_entry("TRAILER!!!", 0, b"", 0)
        path.write_bytes(gzip.compress(archive, 6, mtime=0))

    return cache.build_once(f"initramfs-{key}.gz", f"making the initramfs for {kernel.release}", make)


def _module_index(kernel: Kernel, stripped: pathlib.Path) -> pathlib.Path:
    """A directory with vexfs.ko and the modules.* files that know it, so that the guest need not run depmod."""
    key = cache.digest(kernel.release, stripped)

    def make(path: pathlib.Path) -> None:
        with tempfile.TemporaryDirectory(dir=cache.directory()) as scratch:
            base = pathlib.Path(scratch) / "lib/modules" / kernel.release
            base.parent.mkdir(parents=True)
            cache.run(["cp", "-rs", kernel.modules.resolve(), base])
            for old in base.glob("modules.*"):
                if old.name not in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
                    old.unlink()
            (base / "extra").mkdir()
            shutil.copy(stripped, base / "extra/vexfs.ko")
            cache.run(["depmod", "-b", scratch, kernel.release])
            path.mkdir()
            shutil.copytree(base / "extra", path / "extra")
            for index in base.glob("modules.*"):
                if not index.is_symlink():
                    shutil.copy(index, path / index.name)

    index = cache.build_once(f"index-{kernel.release}-{key}", f"indexing vexfs.ko for {kernel.release}", make)
    cache.prune("index-*", 20)  # one for every build of the module
    return index


def payload(archive: pathlib.Path, kernel: Kernel, module: pathlib.Path | None, programs: list[pathlib.Path],
            shares: list[pathlib.Path], command: str, env: dict[str, str]) -> None:
    """Writes the tar archive that the guest unpacks over its root: module, programs, shared files, the command."""
    with tempfile.TemporaryDirectory() as scratch_name, tarfile.open(archive, "w") as tar:
        scratch = pathlib.Path(scratch_name)
        if module is not None:
            stripped = scratch / "vexfs.ko"
            cache.run(["objcopy", "--strip-debug", module, stripped])
            if kernel.modules is None:
                tar.add(stripped, f"usr/lib/modules/{kernel.release}/extra/vexfs.ko")  # vm-init runs depmod
            else:
                tar.add(_module_index(kernel, stripped), f"usr/lib/modules/{kernel.release}")
        for program in programs:
            stripped = scratch / program.name
            shutil.copy(program, stripped)
            if stripped.read_bytes()[:4] == b"\x7fELF":
                cache.run(["strip", "--strip-debug", stripped])
            os.chmod(stripped, 0o755)
            tar.add(stripped, f"opt/vexfs/bin/{program.name}")
        (scratch / "share").mkdir()
        tar.add(scratch / "share", "opt/vexfs/share")
        for share in shares:
            tar.add(share, f"opt/vexfs/share/{share.resolve().name}")
        (scratch / "command").write_text(command + "\n")
        tar.add(scratch / "command", "opt/vexfs/command")
        (scratch / "env").write_text("".join(f"export {key}={shlex.quote(value)}\n" for key, value in env.items()))
        tar.add(scratch / "env", "opt/vexfs/env")
