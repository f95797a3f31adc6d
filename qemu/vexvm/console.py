# SPDX-License-Identifier: MIT
"""Reads the guest's kernel console and finds reports of trouble in it."""
import re

# Lines that begin a report. Each is what the kernel prints for a defect, none is printed by a healthy guest.
REPORT = re.compile(
    r"BUG: |BUG at |Oops\b|Kernel panic|kernel BUG|WARNING: (CPU|possible|bad unlock|inconsistent|suspicious|nested)"
    r"|WARNING: .* at .*:\d+|general protection fault|Unable to handle kernel|double fault|stack segment"
    r"|INFO: task .* blocked|INFO: trying to register non-static|INFO: possible|INFO: rcu.*(stall|detected)"
    r"|rcu: INFO:|soft lockup|hard LOCKUP|possible (circular|recursive|irq) |suspicious RCU|held lock freed"
    r"|UBSAN:|KASAN:|KCSAN:|KFENCE:|kmemleak: \d+ new|list_(add|del) corruption|refcount_t: "
    r"|scheduling while atomic|sleeping function called|VFS: Busy inodes after unmount"
    r"|unable to mount root|Out of memory: Killed|kobject.*tried to add|cache .*Slab cache still has objects"
    r"|Objects remaining in|page allocation failure|Bad (page|rss)")
# Under TCG a loaded host starves a virtual CPU for long; these say so and nothing about the guest.
HARMLESS = re.compile(r"clocksource|perf: interrupt took too long|hrtimer: interrupt took|TSC .*unstable|NMI handler")


class Console:
    """Collects console text, line by line. report is the first troubling line, once there is one."""

    def __init__(self, allowed: str | None, on_line=None):
        self._allowed = re.compile(allowed) if allowed else None
        self._partial = b""
        self._on_line = on_line
        self.lines: list[str] = []
        self.report: str | None = None
        self.report_index = 0

    def feed(self, data: bytes) -> None:
        """Takes the next bytes from the guest."""
        *complete, self._partial = (self._partial + data).split(b"\n")
        for raw in complete:
            self._line(raw)

    def close(self) -> None:
        """The guest is gone: what it left without a newline is a line too."""
        if self._partial:
            self._line(self._partial)
            self._partial = b""

    def _line(self, raw: bytes) -> None:
        line = raw.decode(errors="replace").rstrip("\r")
        self.lines.append(line)
        if self._on_line:
            self._on_line(line)
        if self.report is None and REPORT.search(line) and not HARMLESS.search(line):
            if self._allowed is None or not self._allowed.search(line):
                self.report = line
                self.report_index = len(self.lines) - 1

    def excerpt(self, before: int = 10, after: int = 80) -> str:
        """The report with its surroundings, or the end of the console when there is no report."""
        if self.report is None:
            return "\n".join(self.lines[-40:])
        begin = max(0, self.report_index - before)
        return "\n".join(self.lines[begin:self.report_index + after])
