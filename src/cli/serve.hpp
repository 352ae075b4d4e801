#pragma once
// `myelin serve`: puts the rooms together, runs until a signal, leaves in order.

#include "cli/config.hpp"
#include "store/database.hpp"

namespace myelin::cli {

/// Where there is no admin yet, one is made; `printed` is then the password to show, unless the operator chose it. Their name.
Result<std::optional<std::string>> make_first_admin(store::Database& database, const Config& config, std::string& printed);

/// Runs the server; the exit status of the process. `flags` are those that `config` came from: engines are read again while it runs.
/// `show_link`: also print the address with the token in its fragment.
int serve(Config config, Flags flags, const Surroundings& surroundings, bool show_link);

}  // namespace myelin::cli
