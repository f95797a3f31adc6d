# SPDX-License-Identifier: MIT
"""Kernels to boot: Debian's, by series, unpacked but not installed; or one that somebody built."""
import dataclasses
import lzma
import pathlib
import re
import struct
import subprocess

from . import cache

# Series that Debian 12 has as packages, with the meta package that names the current image.
META = {
    "6.1": "linux-image-cloud-amd64",
    "6.12": "linux-image-6.12-cloud-amd64",
    "6.1-full": "linux-image-amd64",
    "6.12-full": "linux-image-6.12-amd64",
}
# What a guest needs before it has a root file system. Built-in ones are skipped.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")


@dataclasses.dataclass
class Kernel:
    """A kernel that qemu can boot. modules is its /lib/modules/RELEASE, or None when everything is built in."""
    release: str
    image: pathlib.Path
    modules: pathlib.Path | None


def _version_key(release: str):
    return [int(number) for number in re.findall(r"\d+", release)]


def _pattern(series: str) -> re.Pattern:
    number, _, full = series.partition("-")
    flavour = r"(?!cloud-)amd64" if full else "cloud-amd64"
    return re.compile(rf"^{re.escape(number)}\.\d[\w.+]*(-\d+)?-{flavour}$")


def release_of(series: str) -> str:
    """The release of a series: the newest with installed headers (modules are built for it), else Debian's newest."""
    pattern = _pattern(series)
    found = [path.parent.name for path in pathlib.Path("/lib/modules").glob("*/build") if pattern.match(path.parent.name)]
    if found:
        return max(found, key=_version_key)
    listing = subprocess.run(["apt-cache", "depends", META[series]], capture_output=True, text=True, check=False).stdout
    for word in listing.split():
        if word.startswith("linux-image-") and pattern.match(word.removeprefix("linux-image-")):
            return word.removeprefix("linux-image-")
    raise cache.VmError(f"no kernel of series {series}: run make deps")


def _fetch(release: str) -> pathlib.Path:
    package = f"linux-image-{release}"

    def make(path: pathlib.Path) -> None:
        cache.need("dpkg-deb", "depmod", "apt-get")
        path.mkdir()
        cache.run(["apt-get", "-q", "download", package], cwd=path)
        archive = next(path.glob("*.deb"))
        cache.run(["dpkg-deb", "-x", archive, path])
        archive.unlink()
        # A merged-/usr package has its modules in usr/lib.
        if not (path / "lib/modules").is_dir() and (path / "usr/lib/modules").is_dir():
            (path / "usr/lib").rename(path / "lib")
        cache.run(["depmod", "-b", path, release])

    return cache.build_once(f"kernel-{release}", f"fetching {package}", make)


def _release_in(image: pathlib.Path) -> str:
    """The release string inside a bzImage (Documentation/arch/x86/boot.rst: kernel_version)."""
    data = image.read_bytes()[:65536]
    if len(data) < 0x210 or data[0x202:0x206] != b"HdrS":
        raise cache.VmError(f"{image} is no bzImage")
    offset = struct.unpack_from("<H", data, 0x20E)[0] + 0x200
    return data[offset:data.index(b"\0", offset)].split()[0].decode()


def resolve(name: str) -> Kernel:
    """A kernel by series ("6.1", "6.12", "6.1-full" ...), or by path: a bzImage, a kernel build directory, or a
    directory laid out like an unpacked linux-image package."""
    if name in META:
        release = release_of(name)
        base = _fetch(release)
        return Kernel(release, base / f"boot/vmlinuz-{release}", base / "lib/modules" / release)
    path = pathlib.Path(name)
    if path.is_file():
        return Kernel(_release_in(path), path, None)
    built = path / "arch/x86/boot/bzImage"
    if built.is_file():
        return Kernel(_release_in(built), built, None)
    images = sorted(path.glob("boot/vmlinuz-*"))
    if len(images) == 1:
        release = images[0].name.removeprefix("vmlinuz-")
        modules = path / "lib/modules" / release
        return Kernel(release, images[0], modules if modules.is_dir() else None)
    raise cache.VmError(f"--kernel {name}: neither one of {', '.join(META)} nor a kernel")


def boot_modules(kernel: Kernel) -> list[tuple[str, bytes]]:
    """The modules to load before the root disk can be mounted, in order, decompressed."""
    if kernel.modules is None:
        return []
    depends = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    by_name = {pathlib.PurePath(path).name.split(".")[0].replace("-", "_"): path for path in depends}
    order: list[str] = []
    for name in BOOT_MODULES:
        if name not in by_name:
            continue
        # modules.dep names what must be loaded first last.
        for path in [*reversed(depends[by_name[name]]), by_name[name]]:
            if path not in order:
                order.append(path)
    result = []
    for path in order:
        data = (kernel.modules / path).read_bytes()
        if path.endswith(".xz"):
            data = lzma.decompress(data)
        result.append((pathlib.PurePath(path).name.removesuffix(".xz"), data))
    return result
