// A weight matrix (rows, columns) as the kernels read it: in tiles of sixteen rows side by side, so
// that one vector holds the same column, or a few columns, of sixteen rows, and a product with a
// vector needs no sum across lanes.
//
// Columns are filled up with zeros to whole groups of 32, rows to whole tiles.
//
//   F32    tile[column][row]
//   F16    tile[column][row]
//   BF16   tile[column / 2][row][column % 2]         as a dot product of pairs wants them
//   ints   tile[column / 4][row][column % 4]         as a dot product of four bytes wants them
//
// A matrix of ints is w = scale * (q - zero) + least, with one scale (and one least) for each row and
// group of 16 or 32 columns; where they are nested, scale = unit * whole number, with one unit for 256
// columns. q has 4 to 8 bits and is never negative; zero is half of its range or, beside a least, 0.
// Four bits share bytes: of 64 bytes the low halves are columns 8j to 8j + 3, the high halves 8j + 4 to 8j + 7. A fifth bit
// stands apart: bit v of 64 bytes is that of columns 32g + 4v to 32g + 4v + 3. So do a fifth and a sixth:
// bits 2v and 2v + 1 are those of columns 16g + 4v to 16g + 4v + 3.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace lucid {

constexpr int TILE = 16;   // rows
constexpr int GROUP = 32;  // columns that share an activation's scale
constexpr int SUPER = 256; // columns that share the unit of nested scales

enum class Format { F32, F16, BF16, INTS };

// Memory that begins at a multiple of 64 bytes, all zeros at first
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(std::size_t bytes);
    Buffer(std::shared_ptr<std::uint8_t> memory, std::size_t bytes) : memory_(std::move(memory)), size_(bytes) {}

    template <class T = std::uint8_t>
    T* as() { return reinterpret_cast<T*>(memory_.get()); }
    template <class T = std::uint8_t>
    const T* as() const { return reinterpret_cast<const T*>(memory_.get()); }

    std::size_t size() const { return size_; }

  private:
    std::shared_ptr<std::uint8_t> memory_;
    std::size_t size_ = 0;
};

// Where a model's weights lie side by side: in few large pieces, for which the system is asked to use
// its large pages. A token reads all of them, and finding small pages costs a fifth of the time.
class Arena {
  public:
    explicit Arena(int threads) : threads_(threads) {}

    Buffer take(std::size_t bytes);
    int threads() const { return threads_; }  // that lay weights out

  private:
    int threads_;
    std::shared_ptr<std::uint8_t> piece_;
    std::size_t used_ = 0, size_ = 0;
};

struct Matrix {
    Format format = Format::F32;
    int rows = 0, columns = 0;
    int tiles = 0, groups = 0;  // of sixteen rows; of 32 columns

    // of INTS
    int bits = 8;         // 4, 5, 6 or 8
    int per_scale = 32;   // columns: 16 or 32
    bool has_least = false;

    Buffer values;  // by tile
    Buffer high;    // by tile: the bits beyond four
    Buffer scales;  // by tile and group: sixteen float16, or whole numbers of 8 bits where `nested`
    Buffer least;   // the same
    bool nested = false;
    Buffer units;   // of nested scales, by tile and 256 columns: sixteen float16, then those of `least`

    int padded() const { return groups * GROUP; }
    int zero() const { return has_least ? 0 : 1 << (bits - 1); }
    std::size_t tile_bytes() const;       // of `values`
    std::size_t tile_high_bytes() const;  // of `high`
    std::size_t bytes() const { return values.size() + high.size() + scales.size() + least.size() + units.size(); }
};

// Rows of numbers as scale * int, a scale for each 32 columns. Which of `bytes` and `pairs` there are
// depends on what the processor's products want.
struct Ints {
    std::int8_t* bytes = nullptr;
    std::int16_t* pairs = nullptr;     // of each group the columns with even numbers, then the others
    float* scales = nullptr;           // by group of 32 columns
    float* weighted = nullptr;         // scale * sum of the group's ints
    std::int32_t* sums = nullptr;      // of the group's ints
    std::int32_t* half_sums = nullptr; // the same of 16 columns each
};

// Vectors that a matrix is multiplied with, in the form its format wants: rows of `width` columns,
// filled up with zeros.
struct Activations {
    int rows = 0, width = 0;
    const float* floats = nullptr;            // F32, F16
    const std::uint16_t* bfloats = nullptr;   // BF16, where the processor has dot products of them
    Ints ints;                                // INTS
};

}  // namespace lucid
