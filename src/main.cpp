#include "cli/commands.hpp"

int main(int argc, char** argv) { return myelin::cli::run(argc, argv); }
