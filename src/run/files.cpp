#include "run/files.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>

#include "codec/zip.hpp"
#include "os/failure.hpp"
#include "os/memfd.hpp"

namespace myelin::run {
namespace {

constexpr std::size_t buffer_bytes = 256 * 1024;
constexpr std::size_t sync_each = 64;  // beyond so many files one sync of the file system is cheaper

Error write_failure(const std::filesystem::path& path, int number) {
  Error error = os::failure("can't write " + path.filename().string(), number);
  if (error.code == Code::insufficient_storage) error.message += "; make room on the disk and run it again";
  return error;
}

Result<void> write_all(int fd, std::string_view bytes, std::uint64_t offset,
                       const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return write_failure(path, wrote < 0 ? errno : ENOSPC);
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
    offset += static_cast<std::uint64_t>(wrote);
  }
  return {};
}

}  // namespace

// ---- checksums
// -----------------------------------------------------------------------------------------------------

struct Sha256::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  Impl() {
    if (context == nullptr || EVP_DigestInit_ex(context, EVP_sha256(), nullptr) != 1)
      throw std::runtime_error("SHA-256 is not available");
  }
  ~Impl() { EVP_MD_CTX_free(context); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::string_view bytes) {
  if (!bytes.empty() && EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()) != 1)
    throw std::runtime_error("SHA-256 failed");
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (EVP_DigestFinal_ex(impl_->context, digest, &size) != 1) throw std::runtime_error("SHA-256 failed");
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    text += digits[digest[i] >> 4];
    text += digits[digest[i] & 15];
  }
  return text;
}

// ---- writing
// -------------------------------------------------------------------------------------------------------

Result<void> WriteContext::step(const char* name) const {
  if (fault)
    if (const int number = fault(name))
      return os::failure(std::string("can't ") + name + " a file of the run", number);
  return {};
}

Result<void> WriteContext::take(std::uint64_t bytes) {
  if (bytes > budget)
    return Error{
        Code::quota,
        "this result is larger than what is left of your quota for runs. Delete runs that you no longer need",
        ""};
  budget -= bytes;
  return {};
}

Result<FileWriter> FileWriter::create(std::filesystem::path path, WriteContext& context) {
  if (auto allowed = context.step("create"); !allowed) return allowed.take_error();
  FileWriter file;
  file.fd_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.fd_) return write_failure(path, errno);
  file.path_ = std::move(path);
  file.context_ = &context;
  return file;
}

Result<void> FileWriter::append(std::string_view bytes) {
  if (auto allowed = context_->take(bytes.size()); !allowed) return allowed;
  size_ += bytes.size();
  while (!bytes.empty()) {
    const auto part = bytes.substr(0, buffer_bytes - buffer_.size());
    buffer_ += part;
    bytes.remove_prefix(part.size());
    if (buffer_.size() == buffer_bytes)
      if (auto done = flush(); !done) return done;
  }
  return {};
}

Result<void> FileWriter::flush() {
  if (buffer_.empty()) return {};
  if (auto allowed = context_->step("write"); !allowed) return allowed;
  sha_.update(buffer_);
  crc_ = codec::crc32_of(crc_, buffer_);
  auto done = write_all(fd_.get(), buffer_, flushed_, path_);
  flushed_ += buffer_.size();
  buffer_.clear();
  return done;
}

Result<void> FileWriter::patch(std::uint64_t offset, std::string_view bytes) {
  if (auto done = flush(); !done) return done;
  if (auto allowed = context_->step("write"); !allowed) return allowed;
  patched_ = true;
  return write_all(fd_.get(), bytes, offset, path_);
}

Result<void> FileWriter::read(std::uint64_t offset, std::span<char> into) {
  if (auto done = flush(); !done) return done;
  return os::read_exactly_at(fd_.get(), into.data(), into.size(), offset);
}

Result<FileFacts> FileWriter::finish() {
  if (auto done = flush(); !done) return done.take_error();
  if (patched_) {
    sha_ = {};
    crc_ = 0;
    buffer_.resize(buffer_bytes);
    for (std::uint64_t at = 0; at < size_;) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_bytes, size_ - at));
      if (auto got = os::read_exactly_at(fd_.get(), buffer_.data(), part, at); !got) return got.take_error();
      sha_.update({buffer_.data(), part});
      crc_ = codec::crc32_of(crc_, {buffer_.data(), part});
      at += part;
    }
  }
  if (++context_->files <= sync_each) {
    if (auto allowed = context_->step("sync"); !allowed) return allowed.take_error();
    if (::fdatasync(fd_.get()) != 0) return write_failure(path_, errno);
  }
  if (::close(fd_.release()) != 0 && errno != EINTR) return write_failure(path_, errno);
  buffer_ = {};
  return FileFacts{size_, sha_.hex(), crc_};
}

Result<void> sync_directory(const std::filesystem::path& directory, const WriteContext& context) {
  if (auto allowed = context.step("sync"); !allowed) return allowed;
  const os::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return write_failure(directory, errno);
  return {};
}

Result<void> sync_all(const std::filesystem::path& directory,
                      const std::vector<std::filesystem::path>& directories, WriteContext& context) {
  if (context.files > sync_each) {
    if (auto allowed = context.step("sync"); !allowed) return allowed;
    const os::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::syncfs(fd.get()) != 0) return write_failure(directory, errno);
    return {};
  }
  for (const auto& each : directories)
    if (auto done = sync_directory(each, context); !done) return done;
  return {};
}

// ---- reading
// -------------------------------------------------------------------------------------------------------

CheckedFile::CheckedFile(std::filesystem::path path, std::string label, std::uint64_t bytes,
                         std::string sha256)
    : path_(std::move(path)), label_(std::move(label)), bytes_(bytes), sha256_(std::move(sha256)) {}

Error CheckedFile::damaged(std::string_view what) const {
  return {Code::internal,
          label_ + " is damaged: " + std::string(what) + ". Restore it from a backup, or run it again", ""};
}

Result<void> CheckedFile::open() {
  if (fd_) return {};
  fd_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd_ && errno == ENOENT)
    return Error{Code::gone, label_ + " does not exist any more: the run was deleted", ""};
  if (!fd_) return os::failure("can't read " + label_);
  auto size = os::file_size(fd_.get());
  if (!size) return size.take_error();
  if (*size != bytes_)
    return damaged("it has " + std::to_string(*size) + " bytes instead of " + std::to_string(bytes_));
  return {};
}

Result<void> CheckedFile::read(std::uint64_t offset, std::span<char> into) {
  if (auto opened = open(); !opened) return opened;
  if (auto got = os::read_exactly_at(fd_.get(), into.data(), into.size(), offset); !got)
    return damaged(got.error().message);
  if (offset != next_ || into.empty()) return {};
  sha_.update({into.data(), into.size()});
  next_ += into.size();
  if (next_ < bytes_) return {};
  // Read to its end: the descriptor is given back, as there may be thousands of files.
  const bool equal = sha_.hex() == sha256_;
  sha_ = {};
  next_ = 0;
  fd_.reset();
  if (!equal) return damaged("its checksum is another one");
  return {};
}

Result<std::string> CheckedFile::all() {
  std::string text(bytes_, '\0');
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t part = std::min<std::size_t>(buffer_bytes, text.size() - at);
    if (auto got = read(at, {text.data() + at, part}); !got) return got.take_error();
    at += part;
  }
  return text;
}

}  // namespace myelin::run
