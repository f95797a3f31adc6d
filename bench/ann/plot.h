// SPDX-License-Identifier: MIT
// A plot of recall against queries per second as SVG: one panel for each set, speed on a logarithmic axis.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace vexfs::bench {

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // recall, queries per second
};
struct Panel {
  std::string title;
  std::vector<Curve> curves;
};

// Points below recall 0.8 are left out. A curve has the same colour and mark in all panels, by its name.
std::string svg_plot(const std::vector<Panel> &panels, const std::string &caption);

}  // namespace vexfs::bench
