#pragma once
// The table of settings and that of limits: each with its name, its help and what takes its value.

#include "cli/config_values.hpp"

namespace myelin::cli::conf {

struct Setting {
  const char* key;
  const char* help;  // nullptr: no flag and no variable, a file's matter
  Setter set;
  bool is_secret = false;
  bool is_switch = false;
  bool in_file = true;
};

const std::vector<Setting>& settings();

struct LimitSpec {
  const char* key;
  std::uint64_t Limits::*number;
  Amount Limits::*amount;
  std::uint64_t low, high;
  bool share, engine, user;
};

const std::vector<LimitSpec>& limit_specs();

std::string set_limit(LimitOverrides& to, const LimitSpec& spec, const Given& given);

}  // namespace myelin::cli::conf
