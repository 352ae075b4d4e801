#pragma once
// Two results side by side, a few MiB a step. For pool threads.

#include <boost/json.hpp>

#include "run/maker.hpp"
#include "run/runs.hpp"

namespace myelin::run {

class Comparison {
 public:
  Comparison(Record a, Kept kept_a, Place place_a, Record b, Kept kept_b, Place place_b);
  ~Comparison();
  Comparison(const Comparison&) = delete;
  Comparison& operator=(const Comparison&) = delete;
  /// True while there is more to do.
  Result<bool> step();
  /// After the last step. `identical`: the same datasets, bit for bit (a NaN equals every NaN), and the same
  /// values beside them; what was printed and where it ran does not count, but is told in `differs`.
  [[nodiscard]] boost::json::object take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace myelin::run
