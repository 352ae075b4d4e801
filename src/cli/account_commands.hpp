#pragma once
// `myelin token …` and `myelin user …`: accounts by the one who owns DIR, whether a server runs or not; it follows at once.

#include <CLI/CLI.hpp>
#include <functional>

#include "cli/config.hpp"

namespace myelin::cli {

void add_account_commands(CLI::App& app, Flags& flags, const Surroundings& surroundings, const std::function<void(CLI::App*)>& take_data, int& status);

}  // namespace myelin::cli
