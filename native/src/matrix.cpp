#include "matrix.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace lucid {

Buffer::Buffer(std::size_t bytes) : size_(bytes) {
    std::size_t whole = (bytes + 63) / 64 * 64;
    auto* memory = static_cast<std::uint8_t*>(std::aligned_alloc(64, whole ? whole : 64));
    if (!memory) throw std::bad_alloc();
    std::memset(memory, 0, whole);
    memory_.reset(memory);
}

void Buffer::Free::operator()(std::uint8_t* memory) const {
    std::free(memory);
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
