// SPDX-License-Identifier: GPL-2.0-only OR MIT
// Printer: numbers, identifiers and escaped bytes as text.
#include "printer.h"

namespace vexfs {

namespace printer_impl {
namespace {
constexpr char digits[] = "0123456789abcdef";
}
}  // namespace printer_impl

Printer &Printer::str(const char *s) {
  if (!s) s = "(null)";
  while (*s) ch(*s++);
  return *this;
}

Printer &Printer::str(const char *s, usize n) {
  for (usize i = 0; i < n; i++) ch(s[i]);
  return *this;
}

Printer &Printer::quoted(Bytes s) {
  ch('"');
  for (u8 c : s) {
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
      ch(static_cast<char>(c));
    } else {
      ch('\\').ch('x').ch(printer_impl::digits[c >> 4]).ch(printer_impl::digits[c & 15]);
    }
  }
  return ch('"');
}

Printer &Printer::dec(u64 v) {
  char tmp[20];
  usize n = 0;
  do {
    tmp[n++] = static_cast<char>('0' + v % 10);
    v /= 10;
  } while (v);
  while (n) ch(tmp[--n]);
  return *this;
}

Printer &Printer::sdec(s64 v) {
  if (v >= 0) return dec(static_cast<u64>(v));
  return ch('-').dec(u64{0} - static_cast<u64>(v));
}

Printer &Printer::pad_dec(u64 v, unsigned width) {
  unsigned n = 1;
  for (u64 t = v; t >= 10; t /= 10) n++;
  for (; n < width; n++) ch(' ');
  return dec(v);
}

Printer &Printer::hex(u64 v) {
  unsigned n = 1;
  for (u64 t = v; t >= 16; t /= 16) n++;
  return str("0x").hex_fixed(v, n);
}

Printer &Printer::hex_fixed(u64 v, unsigned n) {
  while (n) {
    n--;
    ch(printer_impl::digits[n < 16 ? (v >> (4 * n)) & 15 : 0]);
  }
  return *this;
}

Printer &Printer::uuid(const u8 (&u)[16]) {
  for (unsigned i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) ch('-');
    hex_fixed(u[i], 2);
  }
  return *this;
}

Printer &Printer::size(u64 bytes) {
  static constexpr const char *unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  unsigned i = 0;
  u64 tenth = 0;
  while (bytes >= 1024) {
    tenth = (bytes % 1024) * 10 / 1024;
    bytes /= 1024;
    i++;
  }
  dec(bytes);
  if (i) ch('.').dec(tenth);
  return ch(' ').str(unit[i]);
}

}  // namespace vexfs
