// Descriptors, messages, processes, the filter's shape, control groups: against the real kernel.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "os/cgroup.hpp"
#include "os/memfd.hpp"
#include "os/process.hpp"
#include "os/seccomp.hpp"
#include "os/socket.hpp"
#include "os/whole_file.hpp"

namespace myelin::os {
namespace {

constexpr int patience_ms = 20'000;

TEST(Fd, has_one_owner) {
  UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  int number = first.get();
  UniqueFd second = std::move(first);
  EXPECT_FALSE(first.valid());  // NOLINT: moved from is empty, by contract
  EXPECT_EQ(second.get(), number);
  second.reset();
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST(Memfd, sealed_one_can_not_change) {
  auto fd = make_sealed_memfd("test", "abcdef");
  ASSERT_TRUE(fd);
  EXPECT_TRUE(is_memfd_sealed_against_shrinking(fd->get()));
  EXPECT_EQ(*file_size(fd->get()), 6u);
  EXPECT_LT(::ftruncate(fd->get(), 0), 0);
  EXPECT_LT(::pwrite(fd->get(), "x", 1, 0), 0);
  char bytes[3];
  ASSERT_TRUE(read_exactly_at(fd->get(), bytes, 3, 2));
  EXPECT_EQ(std::string(bytes, 3), "cde");
  EXPECT_FALSE(read_exactly_at(fd->get(), bytes, 3, 4));
}

TEST(Memfd, others_are_not_sealed) {
  UniqueFd open_one(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)),
      file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(is_memfd_sealed_against_shrinking(open_one.get()));
  EXPECT_FALSE(is_memfd_sealed_against_shrinking(file.get()));
}

TEST(Socket, carries_bytes_and_descriptors) {
  auto pair = socket_pair(SocketKind::packets);
  ASSERT_TRUE(pair);
  auto file = make_sealed_memfd("test", "inside");
  std::array fds{file->get(), 0};
  EXPECT_EQ(*send_message(pair->first.get(), "two", fds), 3u);
  auto got = receive_message(pair->second.get(), 100);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->bytes, "two");
  ASSERT_EQ(got->fds.size(), 2u);
  EXPECT_TRUE(::fcntl(got->fds[0].get(), F_GETFD) & FD_CLOEXEC);
  EXPECT_EQ(*file_size(got->fds[0].get()), 6u);
}

TEST(Socket, tells_end_from_nothing_yet_and_refuses_long_packets) {
  auto pair = socket_pair(SocketKind::packets);
  ASSERT_TRUE(set_nonblocking(pair->second.get()));
  EXPECT_EQ(receive_message(pair->second.get(), 10)->state, Received::State::would_block);
  (void)send_message(pair->first.get(), "longer than that");
  EXPECT_EQ(receive_message(pair->second.get(), 10).error().code, Code::too_large);
  pair->first.reset();
  EXPECT_EQ(receive_message(pair->second.get(), 10)->state, Received::State::end);
  EXPECT_FALSE(send_message(pair->second.get(), "x"));  // and no SIGPIPE
}

TEST(Process, child_gets_its_descriptors_and_nothing_else) {
  auto pair = socket_pair(SocketKind::stream);
  int stray = ::fcntl(0, F_DUPFD, 50);  // open and inheritable on purpose
  // The numbers wanted are taken by others here, in the wrong order.
  auto child = spawn(
      {.arguments =
           {"/bin/sh", "-c",
            "for n in 0 1 2 3 4 5 50 100 101; do [ -e /proc/$$/fd/$n ] && x=\"$x $n\"; done; echo $A $x >&4"},
       .environment = {"A=b", "PATH=/usr/bin:/bin"},
       .fds = {-1, pair->second.get()}});
  ASSERT_TRUE(child) << child.error().message;
  pair->second.reset();
  ASSERT_TRUE(wait_readable(pair->first.get(), patience_ms));
  std::string said = receive_message(pair->first.get(), 1000)->bytes;
  EXPECT_EQ(said, "b 0 1 2 4\n");
  auto status = wait_and_reap(*child, patience_ms);
  ASSERT_TRUE(status);
  EXPECT_EQ(describe_wait_status(*status), "exit code 0");
  EXPECT_FALSE(*send_signal(child->pidfd.get(), SIGKILL));  // gone, and nobody else was hit
  ::close(stray);
}

TEST(Process, missing_program_is_an_error) {
  auto child = spawn({.arguments = {"/does/not/exist"}, .environment = {}, .fds = {}});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code, Code::not_found);
}

TEST(Process, use_of_a_tree) {
  auto pair = socket_pair(SocketKind::stream);
  auto child = spawn({.arguments = {"/bin/sh", "-c", "sleep 60 & sleep 60 & echo up >&3; wait"},
                      .environment = {"PATH=/usr/bin:/bin"},
                      .fds = {pair->second.get()}});
  ASSERT_TRUE(child);
  ASSERT_TRUE(wait_readable(pair->first.get(), patience_ms));
  std::array roots{child->pid};
  Use tree = tree_use(roots);
  EXPECT_EQ(tree.processes, 3u);
  EXPECT_EQ(tree.threads, 3u);
  EXPECT_GE(tree.resident_bytes, process_use(child->pid)->resident_bytes);
  EXPECT_GT(process_use(child->pid)->resident_bytes, 0u);
  ASSERT_TRUE(set_subreaper());
  (void)send_signal(child->pidfd.get(), SIGKILL);
  auto status = wait_and_reap(*child, patience_ms);
  ASSERT_TRUE(status);
  EXPECT_EQ(describe_wait_status(*status), "signal 9 (Killed)");
  EXPECT_FALSE(process_use(child->pid));
  for (const char* left : {"first", "second"}) {  // the two sleeps are ours now
    auto text = read_text("/proc/self/task/" + std::to_string(::getpid()) + "/children");
    ASSERT_TRUE(text && !text->empty()) << left;
    pid_t pid = std::stoi(*text);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

TEST(Process, memory_is_known) {
  EXPECT_GT(total_memory_bytes(), 64u << 20);
  EXPECT_GE(usable_cpus(), 1u);
}

TEST(WholeFile, is_replaced_in_one_step_and_leaves_nothing_beside) {
  const auto folder = std::filesystem::temp_directory_path() / ("myelin-whole-file-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const std::string path = folder / "a";
  ASSERT_TRUE(replace_file(path, "one"));
  const std::string longer(3 << 20, 'x');
  ASSERT_TRUE(replace_file(path, longer));
  auto text = read_text(path, 4 << 20);
  ASSERT_TRUE(text);
  EXPECT_TRUE(*text == longer);
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0600));
  std::filesystem::create_directories(folder / "b" / "c");
  EXPECT_FALSE(replace_file(folder / "b", "a directory is in the way"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 2);
  EXPECT_EQ(replace_file(folder / "none" / "a", "").error().code, Code::not_found);
  std::filesystem::remove_all(folder);
}

TEST(Seccomp, program_is_whole_and_small) {
  auto program = seccomp_program();
  ASSERT_TRUE(program) << program.error().message;
  EXPECT_EQ(program->size() % sizeof(sock_filter), 0u);
  EXPECT_LE(program->size() / sizeof(sock_filter), 1024u);
}

class Cgroup : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = CgroupTree::open(name_);
    if (!opened) GTEST_SKIP() << opened.error().message << " – " << opened.error().detail;
    tree_ = std::move(*opened);
  }
  void TearDown() override {
    if (tree_) tree_->close();
  }
  // A shell that waits for a byte before it runs `script`, so that it can be moved first.
  Result<Child> waiting_shell(const std::string& script) {
    auto pair = socket_pair(SocketKind::stream);
    auto child = spawn({.arguments = {"/bin/sh", "-c", "read go <&3; " + script},
                        .environment = {"PATH=/usr/bin:/bin"},
                        .fds = {pair->second.get()}});
    go_ = std::move(pair->first);
    return child;
  }
  void go() { (void)send_message(go_.get(), "go\n"); }

  std::string name_ = "myelin-os-test-" + std::to_string(::getpid());
  std::optional<CgroupTree> tree_;
  UniqueFd go_;
};

TEST_F(Cgroup, over_the_memory_limit_is_killed_and_told) {
  auto group = tree_->create("a", {.memory_bytes = 48u << 20, .pids = 16});
  ASSERT_TRUE(group) << group.error().message;
  auto child = waiting_shell("exec /usr/bin/python3 -c 'x = bytearray(400 << 20)'");
  ASSERT_TRUE(child);
  ASSERT_TRUE(group->add(child->pid));
  EXPECT_FALSE(group->oom_killed());
  go();
  auto status = wait_and_reap(*child, patience_ms);
  ASSERT_TRUE(status);
  EXPECT_EQ(describe_wait_status(*status), "signal 9 (Killed)");
  EXPECT_TRUE(group->oom_killed());
  EXPECT_TRUE(group->reached_limit());
  EXPECT_TRUE(group->memory_used());
  EXPECT_TRUE(group->remove());
}

TEST_F(Cgroup, kill_ends_what_forks_on) {
  auto group = tree_->create("b", {.pids = 20});
  ASSERT_TRUE(group);
  ASSERT_TRUE(set_subreaper());
  auto child =
      waiting_shell("bomb() { bomb | bomb & }; bomb 2>/dev/null; while :; do sleep 1 & done 2>/dev/null");
  ASSERT_TRUE(child);
  ASSERT_TRUE(group->add(child->pid));
  go();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(group->kill());
  ASSERT_TRUE(wait_and_reap(*child, patience_ms));
  while (::waitpid(-1, nullptr, WNOHANG) > 0) continue;
  auto removed = group->remove();
  EXPECT_TRUE(removed.ok()) << removed.error().message;
}

TEST_F(Cgroup, nothing_is_left_of_one_whose_limits_are_refused) {
  EXPECT_FALSE(tree_->create("d", {.pids = 1ull << 40}));  // more than the kernel knows
  const auto options = std::filesystem::directory_options::skip_permission_denied;
  std::error_code failed;
  for (std::filesystem::recursive_directory_iterator it("/sys/fs/cgroup", options, failed), end; !failed && it != end; it.increment(failed))
    EXPECT_FALSE(it->path().string().ends_with(name_ + "/d")) << it->path();
}

TEST_F(Cgroup, this_process_is_afterwards_where_it_was) {
  auto own = [] {
    std::ifstream file("/proc/self/cgroup");
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  tree_->close();
  const std::string before = own();
  auto first = CgroupTree::open(name_), second = CgroupTree::open(name_ + "-2");
  ASSERT_TRUE(first && second);
  first->close();
  EXPECT_TRUE(second->create("e", {.memory_bytes = 48u << 20}));
  second->close();
  EXPECT_EQ(own(), before);
}

TEST_F(Cgroup, leftovers_of_a_former_server_are_swept) {
  auto group = tree_->create("c", {});
  ASSERT_TRUE(group);
  auto child = waiting_shell("sleep 60");
  ASSERT_TRUE(child);
  ASSERT_TRUE(group->add(child->pid));
  // Nobody reaps while open() waits for the process to be gone, as after a real crash: let init or this test
  // do it.
  std::thread reaper([&] { (void)wait_and_reap(*child, patience_ms); });
  auto again = CgroupTree::open(name_);
  reaper.join();
  ASSERT_TRUE(again);
  EXPECT_FALSE(process_use(child->pid));
  auto fresh = again->create("c", {});
  ASSERT_TRUE(fresh);
  EXPECT_TRUE(fresh->remove());
}

}  // namespace
}  // namespace myelin::os
