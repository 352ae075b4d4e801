// How a session enters its sandbox: libmyelin_enter.so, called by the zygote (ctypes) and by `myelin-sandbox probe`.
// libc only, no thread, no allocation: it runs in a forked child of a Python process. Contract: spec/worker-protocol.md,
// section 2. Nothing can be undone: a child whose join failed must _exit.
#ifndef MYELIN_ENTER_H
#define MYELIN_ENTER_H

struct myelin_join {
  int init_pidfd;             // -1: reduced mode, no namespaces
  int channel_fd;             // becomes fd 3 (close-on-exec)
  int output_fd;              // becomes fds 1 and 2; fd 0 is /dev/null
  const char* user;           // directory below /.myelin/users, or NULL
  const char* const* mounts;  // NULL-terminated triples: source, target, "ro" or "rw"; or NULL
  const char* home;           // working directory and HOME, e.g. /session/home
  unsigned long long files, processes, file_bytes, data_bytes, core_bytes;  // rlimits; 0 = leave (core_bytes is always set)
  const void* filter;         // seccomp program
  unsigned filter_length;     // number of instructions
};

#ifdef __cplusplus
extern "C" {
#endif

// In the zygote, before fork: the next child is born in the init's pid namespace. 0, or -errno.
int myelin_aim(int init_pidfd);
// In the child: everything from setns to seccomp, in this order. 0, or -errno and the step's name in `step` (64 bytes).
int myelin_join(const struct myelin_join* options, char* step);
// In a session with one thread: a copy of it, in the same sandbox, as a child of the session's own parent (the zygote, or the
// keeper that took over from it), which reaps it; so it outlives the session. Like fork: 0 in the copy; -errno when it failed.
// No pthread_atfork handler runs. `with_parent`: it dies with that parent (reduced mode).
long myelin_branch(int with_parent);

#ifdef __cplusplus
}
#endif
#endif
