#pragma once
// How a process is asked for a copy of itself, and how the copy is put in its limits (worker protocol, section 6). Not for other
// rooms.

#include "session/impl.hpp"

namespace myelin::session {

/// Takes a `branched` frame. False: the worker broke the protocol.
bool answer_branch(Process& process, BranchRequest& request, const worker::Frame& frame);
/// Reads the channel of a process that runs no call until the request is answered. Errors: the channel's.
/// `session`: whose process it is; null for a checkpoint's.
async::Task<Result<void>> await_branch(std::shared_ptr<Process> process, std::shared_ptr<BranchRequest> request, std::shared_ptr<Session::Impl> session);
/// Asks a process that runs no call. The request has its result then; errors: the channel's.
async::Task<Result<void>> ask_quiet(std::shared_ptr<Process> process, std::shared_ptr<BranchRequest> request, std::shared_ptr<Session::Impl> session);

/// The two ends that stay here of a branch that is asked for.
struct Ends {
  os::UniqueFd channel, output;
};
/// Fills the request's ends; ours.
Result<Ends> make_ends(BranchRequest& request);
/// The limits of a copy, made while the copy is made.
struct GroupToBe {
  async::Event done;
  std::optional<Result<os::CgroupGroup>> made;
};
/// Null where there are no groups. Goes to raise(), or to drop_group() if there is no copy.
std::shared_ptr<GroupToBe> begin_group(std::shared_ptr<Manager::Impl> manager, std::shared_ptr<Process> source, std::string name, Limits limits);
void drop_group(std::shared_ptr<Manager::Impl> manager, std::shared_ptr<GroupToBe> group);

/// Ends a process that is no session's, in the background.
void retire(std::shared_ptr<Manager::Impl> manager, std::shared_ptr<Process> process);
/// The copy in its limits, after its hello. Until it gets its `go` it stands where it was made.
async::Task<Result<std::shared_ptr<Process>>> raise(std::shared_ptr<Manager::Impl> manager, std::string engine, std::shared_ptr<Sandbox> sandbox,
                                                    Ends ends, std::shared_ptr<GroupToBe> group);
/// A copy of a process that runs no call and that nobody else talks to.
async::Task<Result<std::shared_ptr<Process>>> copy_quiet(std::shared_ptr<Manager::Impl> manager, std::string engine, std::shared_ptr<Process> source,
                                                         std::string directory, Limits limits);
async::Task<Result<void>> let_go(std::shared_ptr<Process> process, std::string go);

}  // namespace myelin::session
