#pragma once
// `myelin nest-server log|status|start|stop|restart|pid`: the command of NEST Server, its flags and its
// words, around `myelin serve`. A server is known by a record (pid, start time, boot, log) in
// ${XDG_RUNTIME_DIR}/myelin/nest-server or
// ~/.local/state/myelin/nest-server, never by its process name, so nothing but what was started here is ever
// stopped. The token reaches the server by its environment, never by an argument. "now running" is said when
// it is true.

#include <string>
#include <vector>

namespace myelin::cli {

/// `args` begin with the command. Runs `self_executable serve …`. The exit status.
int nest_server_main(std::vector<std::string> args, std::string self_executable);

}  // namespace myelin::cli
