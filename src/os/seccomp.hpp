#pragma once
// The system calls a session may not make. A deny list: what isn't named is allowed, so engines and compilers work; it is
// one wall of several (namespaces, no capabilities, cgroups) and closes what the others leave open: new namespaces,
// kernel interfaces with a history of holes, terminals' input, foreign architectures. Placement calls (mbind,
// set_mempolicy, sched_setaffinity) stay allowed: OpenMP and BLAS use them.

#include <string>

#include "base/result.hpp"

namespace myelin::os {

/// The program as bytes: an array of `struct sock_filter` for this machine's architecture, at most 4096 of 8 bytes.
/// Denied calls fail with EPERM; clone3 with ENOSYS (libc falls back to clone, whose flags can be checked); sockets but
/// of AF_UNIX, AF_INET and AF_INET6 with EAFNOSUPPORT. Calls of a foreign architecture (i386, x32) kill the process.
[[nodiscard]] Result<std::string> seccomp_program();

}  // namespace myelin::os
