#include "cell/parameters.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <string>

namespace myelin::cell {
namespace {

using P = Parameters;
constexpr std::array<Field, 22> table = {{
    {"diam", "um", "diameter of the cell; its length is 100 um", &P::diam},
    {"cm", "1", "factor on the membrane's capacitance of 0.236886 uF/cm2", &P::cm},
    {"el", "mV", "reversal potential of the leak, and the voltage at the start", &P::el},
    {"gl", "uS/cm2", "leak conductance", &P::gl},
    {"gna", "mS/cm2", "conductance of the sodium channel na1", &P::gna},
    {"gh", "0.1 mS/cm2", "conductance of the h current", &P::gh},
    {"gk", "mS/cm2", "conductance of the potassium channel k1", &P::gk},
    {"tstop", "ms", "length of the run", &P::tstop},
    {"dur", "ms", "start and end of the stimulus", &P::dur_start, &P::dur_end},
    {"amp", "nA", "current of the stimulus; above 0 the first of an FI curve", &P::amp},
    {"mhalf", "mV", "midpoint of na1's activation", &P::mhalf},
    {"hhalf", "mV", "midpoint of the h current", &P::hhalf},
    {"mk", "mV", "slope of na1's activation", &P::mk},
    {"hk", "mV", "slope of the h current", &P::hk},
    {"nhalf", "mV", "midpoint of k1", &P::nhalf},
    {"kn", "mV", "slope of k1", &P::kn},
    {"multiply", "1", "factor on k1's time constant", &P::multiply},
    {"multiply1", "1", "factor on the time constant of na1's activation", &P::multiply1},
    {"multiply2", "1", "factor on the time constant of na1's inactivation", &P::multiply2},
    {"seg1", "mV", "k1 is closed below this voltage", &P::seg1},
    {"seg2", "mV", "na1 activates above, and recovers below, this voltage", &P::seg2},
    {"seg3", "mV", "the h current is closed above this voltage", &P::seg3},
}};

Error refuse(std::string_view field, std::string what) {
  return Error{Code::bad_request, std::string(field) + " " + std::move(what), {}};
}

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", v);
  return text;
}

}  // namespace

std::span<const Field> fields() { return table; }

Result<void> check(const Parameters& p, const Limits& limits) {
  for (const Field& f : table)
    if (!std::isfinite(p.*f.member) || (f.second != nullptr && !std::isfinite(p.*f.second)))
      return refuse(f.name, "must be a finite number");
  if (!(p.diam > 0)) return refuse("diam", "must be greater than 0 um");
  if (!(p.tstop > 0)) return refuse("tstop", "must be greater than 0 ms");
  if (p.tstop > limits.tstop_ms) return refuse("tstop", "is at most " + number(limits.tstop_ms) + " ms here");
  if (!(p.dur_start < p.dur_end)) return refuse("dur", "must be [start, end] in ms, with start before end");
  return {};
}

std::size_t steps_of(double tstop_ms) {
  const double steps = std::ceil(tstop_ms / dt_ms - 0.5 - 1e-7);  // the sum of 0.025s is a little off, too
  return steps > 0 ? static_cast<std::size_t>(steps) : 0;
}

std::vector<double> fi_currents(double amp) {
  // NumPy's arange: the length from the exact bounds, then first + i·(second − first).
  const double length = std::ceil(((amp + 1) - amp) / 0.1);
  const double step = (amp + 0.1) - amp;
  std::vector<double> currents;
  if (!(length > 0 && step > 0)) return currents;
  for (std::size_t i = 0; i < static_cast<std::size_t>(length); ++i)
    currents.push_back(amp + static_cast<double>(i) * step);
  return currents;
}

}  // namespace myelin::cell
