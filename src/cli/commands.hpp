#pragma once
// The command line: parses, dispatches, prints. Each command's work is in a file of its own or small enough to stand here.

namespace myelin::cli {

/// All of `myelin`; the exit status.
int run(int argc, char** argv);

}  // namespace myelin::cli
