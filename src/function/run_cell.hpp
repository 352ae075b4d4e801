#pragma once
// run_cell as a function of the server's own: NeuroAPI's single-compartment cell, its numbers first, its picture when asked.

#include "function/function.hpp"

namespace myelin::function {

/// The longest run (ms) of run_cell without a token.
constexpr double public_tstop_ms = 5'000;

/// myelin.run_cell; see docs/functions.md for its results and their units.
[[nodiscard]] Native run_cell();

}  // namespace myelin::function
