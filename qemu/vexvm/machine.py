# SPDX-License-Identifier: MIT
"""The qemu process: its command line, and a run from power on to the exit status."""
import dataclasses
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import time

from . import cache
from .console import Console
from .kernel import Kernel

QEMU = "qemu-system-x86_64"
# Each port has its own: a kernel without SERIAL_8250_SHARE_IRQ could not open a third one beside the console.
SERIAL_IRQS = (4, 3, 5)
BOOT_LIMIT_S = 180       # from power on to the command; 5 s is usual, a starved host may take long
REPORT_TAIL_S = 4.0      # after a report, wait until the console has been silent that long
REPORT_LIMIT_S = 20.0    # ... but no longer than that in all
POWEROFF_LIMIT_S = 60.0  # from the exit status to the end of the process

EXIT_REPORT = 120   # the kernel reported a defect
EXIT_TIMEOUT = 124  # the time limit passed
EXIT_LOST = 125     # the guest did not boot, or went away without an exit status

# What becomes of writes to a disk: into a throw-away overlay; into a file nobody else looks at; into the user's file.
DISK_USE = {
    "overlay": "snapshot=on,cache=unsafe",
    "scratch": "snapshot=off,cache=unsafe",
    "keep": "snapshot=off,cache=writeback",
}


@dataclasses.dataclass
class Config:
    """Everything that shapes a guest. Sizes and paths are as qemu takes them."""
    kernel: Kernel
    initramfs: pathlib.Path
    accel: str = "tcg"
    cpus: int = 2
    memory: str = "2G"
    cpu_model: str = "max"
    icount: bool = False
    gdb_port: int | None = None
    interactive: bool = False
    boot_limit_s: float = BOOT_LIMIT_S
    append: str = ""
    # (path, serial, use), use being a key of DISK_USE
    disks: list[tuple[pathlib.Path, str, str]] = dataclasses.field(default_factory=list)


def command_line(config: Config, chardevs: list[str]) -> list[str]:
    """The qemu command; chardevs are the -chardev options of the guest's serial ports s0, s1 ..."""
    accel = "kvm" if config.accel == "kvm" else "tcg,thread=" + ("single" if config.icount else "multi")
    cpu = "host" if config.accel == "kvm" and config.cpu_model == "max" else config.cpu_model
    # nokaslr: addresses of one run are those of the next, and gdb finds its symbols.
    append = ("console=ttyS0 quiet panic=-1 oops=panic nokaslr mitigations=off audit=0 selinux=0 apparmor=0 "
              "random.trust_cpu=on no_timer_check rcupdate.rcu_cpu_stall_timeout=120 ")
    if accel != "kvm":
        # QEMU keeps translated code by its virtual address: with libc elsewhere in every process, each exec would be
        # translated anew, which is three times the work.
        append += "norandmaps no5lvl "
    append += config.append
    command = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-M", "q35",
               "-accel", accel, "-cpu", cpu, "-smp", str(config.cpus), "-m", config.memory,
               "-kernel", str(config.kernel.image), "-initrd", str(config.initramfs), "-append", append.strip()]
    for number, chardev in enumerate(chardevs):
        command += ["-chardev", chardev, "-device", f"isa-serial,chardev=s{number},index={number},irq={SERIAL_IRQS[number]}"]
    for number, (path, serial, use) in enumerate(config.disks):
        file = str(path).replace(",", ",,")
        command += ["-drive", f"file={file},format=raw,if=none,id=d{number},discard=unmap,{DISK_USE[use]}",
                    "-device", f"virtio-blk-pci,drive=d{number},serial={serial}"]
    if config.icount:
        command += ["-icount", "shift=0"]
    if config.gdb_port is not None:
        command += ["-gdb", f"tcp:127.0.0.1:{config.gdb_port}", "-S"]
    if config.interactive:
        command += ["-mon", "chardev=s0,mode=readline"]
    return command


class Run:
    """One guest from power on to its end, with its output streamed as it comes."""

    def __init__(self, config: Config, console: Console, output, limit_s: float):
        self._config = config
        self._console = console
        self._output = output
        self._limit_s = limit_s
        self._status: int | None = None
        self._started_at: float | None = None
        self._exit_at: float | None = None
        self._protocol = b""

    def _on_protocol(self, data: bytes) -> None:
        self._protocol += data
        *lines, self._protocol = self._protocol.split(b"\n")
        for line in lines:
            words = line.decode(errors="replace").split()
            if words == ["start"]:
                self._started_at = time.monotonic()
            elif len(words) == 2 and words[0] == "exit" and words[1].isdigit():
                self._status = int(words[1])
                self._exit_at = time.monotonic()

    @property
    def started_at(self) -> float | None:
        """When the command began (monotonic clock), or None before."""
        return self._started_at

    def _why_stop(self, now: float, begin: float, report_at: float | None, last_line_at: float) -> str | None:
        if report_at is not None and (now - last_line_at > REPORT_TAIL_S or now - report_at > REPORT_LIMIT_S):
            return "report"
        if self._exit_at is not None:
            return "no poweroff" if now - self._exit_at > POWEROFF_LIMIT_S else None
        if now - begin > self._limit_s:
            return "timeout"
        if self._started_at is None and self._config.gdb_port is None and now - begin > self._config.boot_limit_s:
            return "no boot"
        return None

    def execute(self) -> tuple[int, str]:
        """Runs to the end. Returns the exit status and, when it is not the command's own, why."""
        pipes = [os.pipe() for _ in range(3)]  # console, output, protocol
        chardevs = [f"file,id=s{n},path=/dev/fd/{write}" for n, (_, write) in enumerate(pipes)]
        command = command_line(self._config, chardevs)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              pass_fds=[write for _, write in pipes], process_group=0) as process:
            for _, write in pipes:
                os.close(write)
            try:
                stopped = self._pump(process, [read for read, _ in pipes])
            finally:
                process.kill()
                for read, _ in pipes:
                    os.close(read)
            complaint = process.stderr.read().decode(errors="replace").strip()
        self._console.close()
        return self._verdict(stopped, complaint)

    def _pump(self, process, descriptors) -> str | None:
        sinks = dict(zip(descriptors, (self._console.feed, self._output, self._on_protocol)))
        begin = last_line_at = time.monotonic()
        report_at = None
        with selectors.DefaultSelector() as selector:
            for descriptor in descriptors:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(0.5):
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fd)
                        continue
                    sinks[key.fd](data)
                    if key.fd == descriptors[0]:
                        last_line_at = time.monotonic()
                now = time.monotonic()
                if report_at is None and self._console.report is not None:
                    report_at = now
                stopped = self._why_stop(now, begin, report_at, last_line_at)
                if stopped is not None:
                    return stopped
        process.wait()
        return None

    def _verdict(self, stopped: str | None, complaint: str) -> tuple[int, str]:
        if self._console.report is not None:
            return EXIT_REPORT, f"the kernel reported: {self._console.report.strip()}"
        if stopped == "timeout":
            return EXIT_TIMEOUT, f"time limit of {self._limit_s:.0f} s"
        if stopped == "no boot":
            return EXIT_LOST, f"the guest did not come up within {self._config.boot_limit_s:.0f} s"
        if stopped == "no poweroff":
            return EXIT_LOST, f"the command ended with {self._status}, but then the guest did not power off"
        if self._status is None:
            return EXIT_LOST, "the guest went away without an exit status" + (f": {complaint}" if complaint else "")
        return self._status, ""


def interactive(config: Config) -> int:
    """A guest on this terminal: its serial console is standard input and output (Ctrl-A X ends it)."""
    null = "null,id=s"
    command = command_line(config, ["stdio,id=s0,mux=on,signal=off", null + "1", null + "2"])
    return subprocess.call(command)


def stop_on_signals() -> None:
    """Makes SIGTERM and SIGHUP end the run the way Ctrl-C does, so that guests and scratch files never stay."""

    def handler(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def check_installed() -> None:
    """Fails with a helpful text when qemu is missing."""
    cache.need(QEMU)
