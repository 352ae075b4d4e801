#include "function/run_cell.hpp"

#include <array>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>

#include "cell/analysis.hpp"
#include "cell/picture.hpp"
#include "cell/simulate.hpp"

namespace myelin::function {
namespace {

struct Range {
  std::string_view name;
  double minimum, maximum;
};
// Wide enough for any cell that means something, narrow enough for a slider.
constexpr std::array<Range, 21> ranges = {{
    {"diam", 1, 1000},     {"cm", 0.1, 10},      {"el", -120, 0},      {"gl", 0, 1000},       {"gna", 0, 1000},      {"gh", 0, 1000},       {"gk", 0, 1000},
    {"tstop", 1, 60'000},  {"amp", -10, 10},     {"mhalf", -120, 60},  {"hhalf", -120, 60},   {"mk", -50, 50},       {"hk", -50, 50},       {"nhalf", -120, 60},
    {"kn", -50, 50},       {"multiply", 0.01, 100}, {"multiply1", 0.01, 100}, {"multiply2", 0.01, 100}, {"seg1", -120, 60}, {"seg2", -120, 60}, {"seg3", -120, 60},
}};

struct Gate {
  std::string_view name, channel;
};
constexpr std::array<Gate, 4> gates = {{{"m", "na1"}, {"h", "na1"}, {"n", "k1"}, {"l", "hd"}}};

std::string declaration() {
  const cell::Parameters usual;
  json::array parameters;
  std::string signature;
  for (const auto& field : cell::fields()) {
    json::object p{{"name", field.name}, {"required", false}, {"help", field.meaning}};
    p["unit"] = field.unit == "1" ? std::string_view() : field.unit;
    signature += (signature.empty() ? "" : ", ") + std::string(field.name) + "=";
    if (field.second) {
      p["kind"] = "list";
      p["items"] = json::object{{"kind", "number"}, {"minimum", 0}, {"maximum", 60'000}};
      p["length"] = 2;
      p["default"] = json::array{usual.*field.member, usual.*field.second};
    } else {
      p["kind"] = "number";
      for (const auto& range : ranges)
        if (range.name == field.name) {
          p["minimum"] = range.minimum;
          p["maximum"] = range.maximum;
        }
      p["default"] = usual.*field.member;
    }
    signature += json::serialize(p.at("default"));
    parameters.push_back(std::move(p));
  }
  parameters.push_back(json::object{{"name", "fi"}, {"required", false}, {"kind", "boolean"}, {"default", true},
                                    {"help", "with amp above 0, the FI curve from amp in steps of 0.1 nA; else one run"}});
  parameters.push_back(json::object{{"name", "traces"}, {"required", false}, {"kind", "boolean"}, {"default", true},
                                    {"help", "with time and voltage, and the gates' curves; without them a sweep's result is small"}});
  parameters.push_back(json::object{{"name", "membrane"}, {"required", false}, {"kind", "boolean"}, {"default", true},
                                    {"help", "with what the membrane does at rest: a second more to compute, once for each cell"}});
  auto result = [](const char* unit, const char* dim, const char* help) {
    return json::object{{"unit", unit}, {"dims", json::array{dim}}, {"help", help}};
  };
  auto value = [](const char* unit, const char* help) { return json::object{{"unit", unit}, {"dims", json::array{}}, {"help", help}}; };
  json::object results{{"t", result("ms", "t", "time")},
                       {"v", result("mV", "t", "membrane voltage; of an FI curve its last run's")},
                       {"spikes", result("ms", "spike", "times when v came above 0 mV")},
                       {"current", result("nA", "current", "of each run")},
                       {"frequency", result("Hz", "current", "spikes of the run by the stimulus' duration")},
                       {"resting_potential", value("mV", "after a second without stimulus; null where the cell fires by itself or does not come to rest")},
                       {"input_resistance", value("MOhm", "what a small lasting current moves the voltage by, all channels included; null where a step of a gate's curve holds the voltage")},
                       {"time_constant", value("ms", "until 1 - 1/e of the first answer to such a current; null likewise")},
                       {"gate_v", result("mV", "gate_v", "voltages of the gates' curves")}};
  for (const auto& gate : gates) {
    const std::string name(gate.name), of = " of " + std::string(gate.channel) + " at that voltage";
    results[name + "_inf"] = result("", "gate_v", ("where gate " + name + of + " goes").c_str());
    results[name + "_tau"] = result("ms", "gate_v", ("time constant of gate " + name + of).c_str());
  }
  json::array infs, taus;  // hd is a hundred times slower than the others: a plot of its own
  for (const auto& gate : gates) {
    infs.push_back(json::string(std::string(gate.name) + "_inf"));
    if (gate.channel != "hd") taus.push_back(json::string(std::string(gate.name) + "_tau"));
  }
  json::array plots{json::object{{"kind", "line"}, {"x", "t"}, {"y", json::array{"v"}}, {"title", "Membrane voltage (mV) over time (ms)"}},
                    json::object{{"kind", "dots"}, {"x", "current"}, {"y", json::array{"frequency"}}, {"title", "Firing rate (Hz) by current (nA)"}},
                    json::object{{"kind", "line"}, {"x", "gate_v"}, {"y", std::move(infs)}, {"title", "Where the gates go, by voltage (mV)"}},
                    json::object{{"kind", "line"}, {"x", "gate_v"}, {"y", std::move(taus)}, {"title", "Time constants of the gates (ms) by voltage (mV)"}},
                    json::object{{"kind", "line"}, {"x", "gate_v"}, {"y", json::array{"l_tau"}}, {"title", "Time constant of the h current's gate (ms) by voltage (mV)"}},
                    json::object{{"kind", "picture"}, {"name", "picture"}, {"title", "All panels"}}};
  return json::serialize(json::object{
      {"name", "run_cell"},
      {"title", "A cell with one compartment"},
      {"description", "Voltage, spikes and FI curve of a cell with leak, sodium, potassium and h currents. The same model and numbers as NeuroAPI's run_cell, "
                      "computed without NEURON."},
      {"engine", "native"},
      {"signature", "run_cell(" + signature + ", fi=true, traces=true, membrane=true)"},
      {"deterministic", true},
      {"public", true},
      {"typed", true},
      {"parameters", std::move(parameters)},
      {"results", std::move(results)},
      {"plots", std::move(plots)}});
}

double number(const json::value& value) { return value.is_double() ? value.get_double() : value.is_uint64() ? static_cast<double>(value.get_uint64()) : static_cast<double>(value.as_int64()); }

struct Ran {
  std::vector<cell::Run> runs;
  std::vector<cell::Outcome> outcomes;
  bool traces = true, membrane = true;
};

// What cells do at rest, remembered: it does not depend on what a slider of the stimulus changes.
class Membranes {
 public:
  std::vector<cell::Membrane> of(const std::vector<cell::Parameters>& cells) {
    std::vector<cell::Membrane> out(cells.size());
    std::vector<cell::Parameters> unknown;
    std::vector<std::string> keys, new_keys;
    std::map<std::string, cell::Membrane> fresh;
    {
      std::lock_guard guard(mutex_);
      for (std::size_t i = 0; i < cells.size(); ++i) {
        keys.push_back(key_of(cells[i]));
        if (auto found = known_.find(keys[i]); found != known_.end()) {
          out[i] = found->second;
          keys[i].clear();
        } else if (fresh.try_emplace(keys[i]).second) {
          unknown.push_back(cells[i]);
          new_keys.push_back(keys[i]);
        }
      }
    }
    if (unknown.empty()) return out;
    const auto computed = cell::membranes_of(unknown);
    for (std::size_t i = 0; i < unknown.size(); ++i) fresh[new_keys[i]] = computed[i];
    for (std::size_t i = 0; i < cells.size(); ++i)
      if (!keys[i].empty()) out[i] = fresh[keys[i]];
    std::lock_guard guard(mutex_);
    if (known_.size() + fresh.size() > most) known_.clear();
    known_.merge(fresh);
    return out;
  }

 private:
  static constexpr std::size_t most = 10'000;
  static std::string key_of(const cell::Parameters& p) {
    std::string key;
    for (const auto& field : cell::fields())
      if (field.name != "amp" && field.name != "dur" && field.name != "tstop") key.append(reinterpret_cast<const char*>(&(p.*field.member)), sizeof(double));
    return key;
  }
  std::mutex mutex_;
  std::map<std::string, cell::Membrane> known_;
};

// The runs of one call.
Result<Ran> runs_of(const json::object& given, bool with_rates) {
  cell::Parameters p;
  for (const auto& field : cell::fields()) {
    const auto& value = given.at(field.name);
    if (field.second) {
      p.*field.member = number(value.as_array().at(0));
      p.*field.second = number(value.as_array().at(1));
    } else {
      p.*field.member = number(value);
    }
  }
  if (auto fits = cell::check(p); !fits) return fits.take_error();
  Ran ran;
  ran.traces = given.at("traces").as_bool();
  ran.membrane = given.at("membrane").as_bool();
  if (given.at("fi").as_bool() && p.amp > 0) ran.runs = cell::runs_of(p);
  else ran.runs = {cell::Run{.cell = p, .amp_nA = p.amp}};
  if (ran.runs.empty()) return Error{Code::bad_request, "amp is too large for steps of 0.1 nA", ""};
  ran.runs.back().keep_v = ran.traces || with_rates;
  ran.runs.back().keep_rates = with_rates;
  return ran;
}

Result<Ran> simulate(const json::object& given, bool with_rates, const std::function<bool()>& cancelled) {
  auto ran = runs_of(given, with_rates);
  if (!ran) return ran;
  auto go_on = [&cancelled](double) { return !cancelled(); };
  auto outcomes = cell::simulate(ran->runs, {}, go_on);
  if (!outcomes) return outcomes.take_error();
  ran->outcomes = std::move(*outcomes);
  return ran;
}

Answering written(const Ran& ran, const cell::Membrane& membrane) {
  const auto& last = ran.outcomes.back();
  std::vector<double> current, frequency;
  for (std::size_t i = 0; i < ran.runs.size(); ++i) {
    const auto point = cell::fi_point(ran.runs[i], ran.outcomes[i]);
    current.push_back(point.current_nA);
    frequency.push_back(point.frequency_Hz);
  }
  Answering out;
  out.text("{");
  if (ran.traces) {
    std::vector<double> t(last.v_mV.size());
    for (std::size_t i = 0; i < t.size(); ++i) t[i] = static_cast<double>(i) * cell::dt_ms;
    out.text("\"t\":").array(t).text(",\"v\":").array(last.v_mV).text(",");
  }
  out.text("\"spikes\":").array(last.spike_times_ms).text(",\"current\":").array(current).text(",\"frequency\":").array(frequency);
  if (ran.membrane) {
    auto number = [&out](const char* name, std::optional<double> value) {
      out.text(",\"").text(name).text("\":");
      if (value) out.number(*value);
      else out.text("null");
    };
    number("resting_potential", membrane.rest_mV);
    number("input_resistance", membrane.input_resistance_MOhm);
    number("time_constant", membrane.time_constant_ms);
  }
  if (ran.traces) {
    const auto curves = cell::gating_curves(ran.runs.back().cell);
    out.text(",\"gate_v\":").array(curves.v_mV);
    for (const auto& gate : gates)
      for (const auto& curve : curves.curves) {
        if (curve.channel != gate.channel || curve.gate != gate.name) continue;
        const std::string name(gate.name);
        out.text(",\"" + name + "_inf\":").array(curve.inf).text(",\"" + name + "_tau\":").array(curve.tau_ms);
      }
  }
  out.text("}");
  return out;
}

Result<Answering> numbers(Membranes& membranes, const json::object& given, const std::function<bool()>& cancelled) {
  auto ran = simulate(given, false, cancelled);
  if (!ran) return ran.take_error();
  return written(*ran, ran->membrane ? membranes.of({ran->runs.back().cell}).front() : cell::Membrane{});
}

constexpr std::size_t most_samples = 4'000'000;  // of the traces that are in memory together

// Runs of one length share the lanes of vectors.
std::vector<Result<Answering>> many(Membranes& membranes, const std::vector<json::object>& calls, const std::function<bool()>& cancelled) {
  std::vector<Result<Ran>> all;
  std::map<double, std::vector<std::size_t>> of_length;
  std::size_t samples = 0;  // of traces
  for (const auto& call : calls) {
    auto ran = runs_of(call, false);
    const std::size_t more = ran && ran->traces ? cell::steps_of(ran->runs.back().cell.tstop) + 1 : 0;
    if (!all.empty() && samples + more > most_samples) break;
    samples += more;
    all.push_back(std::move(ran));
    if (all.back()) of_length[all.back()->runs.front().cell.tstop].push_back(all.size() - 1);
  }
  auto go_on = [&cancelled](double) { return !cancelled(); };
  for (const auto& [length, members] : of_length) {
    std::vector<cell::Run> runs;
    for (auto member : members) runs.insert(runs.end(), all[member]->runs.begin(), all[member]->runs.end());
    auto outcomes = cell::simulate(std::move(runs), {}, go_on);
    std::size_t next = 0;
    for (auto member : members) {
      const std::size_t count = all[member]->runs.size();
      if (!outcomes) {
        all[member] = outcomes.error();
        continue;
      }
      auto from = outcomes->begin() + static_cast<std::ptrdiff_t>(next);
      all[member]->outcomes.assign(std::make_move_iterator(from), std::make_move_iterator(from + static_cast<std::ptrdiff_t>(count)));
      next += count;
    }
  }
  std::vector<cell::Parameters> wanted;
  for (const auto& one : all)
    if (one && one->membrane) wanted.push_back(one->runs.back().cell);
  const auto at_rest = membranes.of(wanted);
  std::vector<Result<Answering>> out;
  std::size_t next = 0;
  for (auto& one : all) {
    if (one) out.emplace_back(written(*one, one->membrane ? at_rest[next++] : cell::Membrane{}));
    else out.emplace_back(one.take_error());
  }
  return out;
}

Result<std::string> picture(const json::object& given, bool svg, const std::function<bool()>& cancelled) {
  auto ran = simulate(given, true, cancelled);
  if (!ran) return ran.take_error();
  std::vector<cell::FiPoint> fi;
  if (ran->runs.size() > 1)
    for (std::size_t i = 0; i < ran->runs.size(); ++i) fi.push_back(cell::fi_point(ran->runs[i], ran->outcomes[i]));
  const cell::PictureInput input{ran->runs.back(), ran->outcomes.back(), fi};
  return cell::draw(input, svg ? cell::PictureFormat::svg : cell::PictureFormat::png);
}

}  // namespace

Native run_cell() {
  auto membranes = std::make_shared<Membranes>();
  using Cancelled = const std::function<bool()>&;
  return {.package = "myelin",
          .declaration = declaration(),
          .version = "2-" + std::string(cell::best_kernel().name),
          .call = [membranes](const json::object& given, Cancelled cancelled) { return numbers(*membranes, given, cancelled); },
          .many = [membranes](const std::vector<json::object>& calls, Cancelled cancelled) { return many(*membranes, calls, cancelled); },
          .in_public =
              [](const json::object& given) {
                std::vector<FieldError> errors;
                if (number(given.at("tstop")) > public_tstop_ms)
                  errors.push_back({"tstop", "is at most " + std::to_string(static_cast<int>(public_tstop_ms)) + " ms without a token; sign in for more"});
                return errors;
              },
          .picture = picture};
}

}  // namespace myelin::function
