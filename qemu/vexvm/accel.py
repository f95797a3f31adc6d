# SPDX-License-Identifier: MIT
"""Whether KVM really runs guests here. An openable /dev/kvm says little: under some hypervisors guests then hang."""
import os
import pathlib
import subprocess

from . import cache
from .machine import Config, command_line

PROBE_LIMIT_S = 12


def _boots(config: Config) -> bool:
    config.accel = "kvm"
    config.append = "vexfs.probe"
    command = command_line(config, ["stdio,id=s0,signal=off"])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return b"initramfs is up" in done.stdout


def probe(config: Config) -> str:
    """ "kvm" or "tcg". Boots the kernel as far as its first program, once per boot of the host."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False).stdout
    name = f"accel-{boot}-{cache.digest(version)}"

    def make(path: pathlib.Path) -> None:
        path.write_text("kvm" if _boots(config) else "tcg")

    return cache.build_once(name, "trying KVM", make).read_text()
