#include "matrix.h"

#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lucid {

namespace {

constexpr std::size_t LARGE_PAGE = std::size_t(2) << 20, PIECE = std::size_t(32) << 20;

std::size_t filled(std::size_t bytes, std::size_t unit) {
    return (bytes + unit - 1) / unit * unit;
}

std::shared_ptr<std::uint8_t> zeros(std::size_t bytes, std::size_t alignment) {
    const std::size_t whole = filled(bytes ? bytes : 1, alignment);
    auto* memory = static_cast<std::uint8_t*>(std::aligned_alloc(alignment, whole));
    if (!memory) throw std::bad_alloc();
    std::memset(memory, 0, whole);
    return {memory, [](std::uint8_t* old) { std::free(old); }};
}

// The same of whole large pages, as the system gives them: touched first by who writes into them
std::shared_ptr<std::uint8_t> large_pages(std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const std::size_t mapped = bytes + LARGE_PAGE;  // a large page begins somewhere in the first
    void* from = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (from == MAP_FAILED) throw std::bad_alloc();
    auto* memory = reinterpret_cast<std::uint8_t*>(filled(reinterpret_cast<std::uintptr_t>(from), LARGE_PAGE));
    madvise(memory, bytes, MADV_HUGEPAGE);
    return {memory, [from, mapped](std::uint8_t*) { munmap(from, mapped); }};
#else
    return zeros(bytes, 64);
#endif
}

}  // namespace

Buffer::Buffer(std::size_t bytes) : memory_(zeros(bytes, 64)), size_(bytes) {}

Buffer Arena::take(std::size_t bytes) {
    const std::size_t whole = filled(bytes, 64);
    if (used_ + whole > size_) {
        size_ = filled(whole > PIECE ? whole : PIECE, LARGE_PAGE);
        piece_ = large_pages(size_);
        used_ = 0;
    }
    std::shared_ptr<std::uint8_t> here(piece_, piece_.get() + used_);
    used_ += whole;
    return {std::move(here), bytes};
}

std::size_t Matrix::tile_bytes() const {
    std::size_t numbers = std::size_t(padded()) * TILE;
    switch (format) {
        case Format::F32: return numbers * 4;
        case Format::F16:
        case Format::BF16: return numbers * 2;
        case Format::INTS: return bits == 8 ? numbers : numbers / 2;
    }
    return 0;
}

std::size_t Matrix::tile_high_bytes() const {
    if (format != Format::INTS || bits == 4 || bits == 8) return 0;
    return std::size_t(padded()) * TILE * (bits - 4) / 8;
}

}  // namespace lucid
