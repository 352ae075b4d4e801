#include "cli/config_settings.hpp"

namespace myelin::cli {
namespace conf {

const std::vector<LimitSpec>& limit_specs() {
  static const std::vector<LimitSpec> all = {
      {"body_mib", &Limits::body_mib, nullptr, 1, 65536, false, false, false},
      {"header_kib", &Limits::header_kib, nullptr, 1, 1024, false, false, false},
      {"json_depth", &Limits::json_depth, nullptr, 1, 10000, false, false, false},
      {"connections", &Limits::connections, nullptr, 16, 1000000, false, false, false},
      {"memory_all", nullptr, &Limits::memory_all, 0, 0, true, false, false},
      {"call_deadline_s", &Limits::call_deadline_s, nullptr, 0, 31536000, false, true, true},
      {"idle_s", &Limits::idle_s, nullptr, 0, 31536000, false, true, true},
      {"memory_per_session", nullptr, &Limits::memory_per_session, 0, 0, true, true, true},
      {"pids", &Limits::pids, nullptr, 1, 4194304, false, true, true},
      {"files", &Limits::files, nullptr, 16, 1048576, false, true, true},
      {"scratch", nullptr, &Limits::scratch, 0, 0, false, true, false},  // sandboxes are made before it is known for whom
      {"queue", &Limits::queue, nullptr, 1, 100000, false, true, true},
      {"stdout_mib", &Limits::stdout_mib, nullptr, 1, 65536, false, true, true},
      {"cpu_weight", &Limits::cpu_weight, nullptr, 1, 10000, false, true, true},
      {"work_quota", nullptr, &Limits::work_quota, 0, 0, false, false, true},
      {"run_quota", nullptr, &Limits::run_quota, 0, 0, false, false, false},
      {"checkpoints", nullptr, &Limits::checkpoints, 0, 0, true, false, true},
      {"max_sessions_per_user", &Limits::max_sessions_per_user, nullptr, 1, 100000, false, false, true},
  };
  return all;
}

std::string set_limit(LimitOverrides& to, const LimitSpec& spec, const Given& given) {
  if (spec.number != nullptr) {
    std::uint64_t value = 0;
    auto bad = set_number(value, given, spec.low, spec.high);
    if (bad.empty()) to.numbers.emplace_back(spec.number, value);
    return bad;
  }
  Amount amount;
  auto bad = set_amount(amount, given, spec.share);
  if (bad.empty()) to.amounts.emplace_back(spec.amount, amount);
  return bad;
}

}  // namespace conf

void LimitOverrides::apply(Limits& limits) const {
  for (const auto& [member, value] : numbers) limits.*member = value;
  for (const auto& [member, value] : amounts) limits.*member = value;
}

}  // namespace myelin::cli
