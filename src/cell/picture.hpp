#pragma once
// run_cell's pictures, as PNG or SVG by the same drawing: one panel of 1000 × 600 for a single run, four rows
// in 1600 × 1400 for an FI curve (voltage of the last current, FI, gates and time constants of the last run).
// Traces are reduced to the lowest and highest value of each pixel's column, so the cost hardly depends on
// their length. Thread-safe.

#include <span>
#include <string>

#include "cell/analysis.hpp"

namespace myelin::cell {

enum class PictureFormat { png, svg };

struct PictureInput {
  const Run& run;               // the one that is shown: of an FI curve the last
  const Outcome& outcome;       // its voltages, for an FI curve its rates too
  std::span<const FiPoint> fi;  // empty: one panel
};

[[nodiscard]] std::string draw(const PictureInput& input, PictureFormat format);

}  // namespace myelin::cell
