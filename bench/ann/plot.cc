// SPDX-License-Identifier: MIT
// A plot of recall against queries per second as SVG.
#include "plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace vexfs::bench {
namespace {

constexpr double panel_w = 460, panel_h = 360, left = 64, right = 16, top = 34, bottom = 46, legend_row = 20;
constexpr double recall_min = 0.80;
// Distinguishable by who does not see red and green apart (Okabe and Ito).
constexpr const char *colours[] = {"#0072b2", "#56b4e9", "#d55e00", "#009e73",
                                   "#cc79a7", "#e69f00", "#000000", "#7f7f7f"};

std::string format(const char *f, double a, double b = 0, double c = 0, double d = 0) {
  char s[256];
  snprintf(s, sizeof s, f, a, b, c, d);
  return s;
}

std::string escaped(const std::string &s) {
  std::string out;
  for (const char c : s) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}

std::string text(double x, double y, const char *anchor, const std::string &s, const char *more = "") {
  return format("<text x='%.1f' y='%.1f' ", x, y) + "text-anchor='" + anchor + "' " + more + ">" + escaped(s) +
         "</text>\n";
}
std::string line(double x1, double y1, double x2, double y2, const char *style) {
  return format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' ", x1, y1, x2, y2) + style + "/>\n";
}

// A mark of four shapes, so that curves differ in print too.
std::string mark(double x, double y, size_t style) {
  const std::string fill = std::string(" fill='") + colours[style % std::size(colours)] + "'/>\n";
  switch (style % 4) {
    case 0:
      return format("<circle cx='%.1f' cy='%.1f' r='3.2'", x, y) + fill;
    case 1:
      return format("<rect x='%.1f' y='%.1f' width='6' height='6'", x - 3, y - 3) + fill;
    case 2:
      return format("<path d='M%.1f %.1fl4 7h-8z'", x, y - 4) + fill;
    default:
      return format("<path d='M%.1f %.1fl4 4l-4 4l-4-4z'", x, y - 4) + fill;
  }
}

// What is missed counts on this axis: from 0.98 to 0.99 is as far as from 0.8 to 0.9, nearly.
double stretched(double recall) { return -std::log10(1 - recall + 0.001); }

struct Axes {
  double x0, y0, low, high;  // low, high: decimal logarithms
  double x(double recall) const {
    return x0 + left +
           (stretched(recall) - stretched(recall_min)) / (stretched(1) - stretched(recall_min)) *
               (panel_w - left - right);
  }
  double y(double qps) const {
    return y0 + panel_h - bottom - (std::log10(qps) - low) / (high - low) * (panel_h - top - bottom);
  }
};

Axes axes_for(const Panel &p, double x0, double y0) {
  double least = 1e300, most = 0;
  for (const Curve &c : p.curves)
    for (const auto &[recall, qps] : c.points)
      if (recall >= recall_min && qps > 0) least = std::min(least, qps), most = std::max(most, qps);
  if (most == 0) least = 1, most = 10;
  Axes a{x0, y0, std::log10(least) - 0.05, std::log10(most) + 0.05};
  if (a.high - a.low < 0.5) {
    const double middle = (a.high + a.low) / 2;
    a.low = middle - 0.25;
    a.high = middle + 0.25;
  }
  return a;
}

std::string number(double v) {
  return v >= 1e6 ? format("%.3gM", v / 1e6) : v >= 1e3 ? format("%.3gk", v / 1e3) : format("%.3g", v);
}

std::string grid(const Axes &a) {
  std::string s;
  for (const double r : {0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0}) {
    s += line(a.x(r), a.y0 + top, a.x(r), a.y0 + panel_h - bottom, "stroke='#dddddd'");
    s += text(a.x(r), a.y0 + panel_h - bottom + 16, "middle", format("%.3g", r));
  }
  for (int decade = static_cast<int>(std::floor(a.low)); decade <= a.high; decade++)
    for (const int step : {1, 2, 5}) {
      const double v = step * std::pow(10.0, decade);
      if (std::log10(v) < a.low || std::log10(v) > a.high) continue;
      s += line(a.x(recall_min), a.y(v), a.x(1), a.y(v), step == 1 ? "stroke='#bbbbbb'" : "stroke='#e6e6e6'");
      s += text(a.x(recall_min) - 6, a.y(v) + 4, "end", number(v));
    }
  s += format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='none' stroke='#444444'/>\n", a.x(recall_min),
              a.y0 + top, panel_w - left - right, panel_h - top - bottom);
  return s;
}

std::string draw(const Panel &p, double x0, double y0, const std::vector<std::string> &names) {
  const Axes a = axes_for(p, x0, y0);
  std::string s = text(x0 + (left + panel_w - right) / 2, y0 + 22, "middle", p.title, "font-weight='bold'") + grid(a);
  s += text(x0 + (left + panel_w - right) / 2, y0 + panel_h - 12, "middle", "recall");
  s += "<text transform='translate(" + format("%.1f %.1f) rotate(-90)'", x0 + 16, y0 + (top + panel_h - bottom) / 2) +
       " text-anchor='middle'>queries/s</text>\n";
  for (const Curve &c : p.curves) {
    const auto style = static_cast<size_t>(std::find(names.begin(), names.end(), c.name) - names.begin());
    std::string path, marks;
    for (const auto &[recall, qps] : c.points) {
      if (recall < recall_min || qps <= 0) continue;
      path += format(path.empty() ? "M%.1f %.1f" : "L%.1f %.1f", a.x(recall), a.y(qps));
      marks += mark(a.x(recall), a.y(qps), style);
    }
    if (path.empty()) continue;
    s += "<path d='" + path + "' fill='none' stroke-width='1.8' stroke='" + colours[style % std::size(colours)] +
         (style >= std::size(colours) ? "' stroke-dasharray='5 3'/>\n" : "'/>\n") + marks;
  }
  return s;
}

}  // namespace

std::string svg_plot(const std::vector<Panel> &panels, const std::string &caption) {
  std::vector<std::string> names;
  for (const Panel &p : panels)
    for (const Curve &c : p.curves)
      if (std::find(names.begin(), names.end(), c.name) == names.end()) names.push_back(c.name);
  const size_t columns = std::max<size_t>(1, std::min<size_t>(3, panels.size()));
  const size_t rows = (panels.size() + columns - 1) / columns;
  const double width = std::max(panel_w * static_cast<double>(columns), 680.0);
  const double margin = (width - panel_w * static_cast<double>(columns)) / 2;
  const auto across = static_cast<size_t>(width / 220);
  const double legend = legend_row * static_cast<double>((names.size() + across - 1) / across) + 34;
  const double height = panel_h * static_cast<double>(rows) + legend;
  std::string s = format("<svg xmlns='http://www.w3.org/2000/svg' width='%.0f' height='%.0f' viewBox='0 0 %.0f %.0f' ",
                         width, height, width, height) +
                  "font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' fill='white'/>\n";
  for (size_t i = 0; i < panels.size(); i++)
    s += draw(panels[i], margin + panel_w * static_cast<double>(i % columns),
              panel_h * static_cast<double>(i / columns), names);
  for (size_t i = 0; i < names.size(); i++) {
    const double x = 20 + 220.0 * static_cast<double>(i % across);
    const double y = panel_h * static_cast<double>(rows) + 10 + legend_row * static_cast<double>(i / across);
    s += line(x, y, x + 26, y,
              (std::string("stroke-width='1.8' stroke='") + colours[i % std::size(colours)] + "'").c_str());
    s += mark(x + 13, y, i) + text(x + 34, y + 4, "start", names[i]);
  }
  s += text(width / 2, height - 8, "middle", caption, "fill='#555555' font-size='11'");
  return s + "</svg>\n";
}

}  // namespace vexfs::bench
