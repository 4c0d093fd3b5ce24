// Weights as files hold them, row by row, into the tiles that the kernels read, and a row back again.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "matrix.h"

namespace lucid {

enum class Blocks { PLAIN, Q4, Q5, Q8, Q45_K, Q6_K };  // ways to lay out a block

// How a file holds a row of numbers: a name of GGUF's, or "F32", "F16", "BF16". Null if unknown.
struct Source {
    std::string_view name;
    Format format;
    Blocks blocks;
    int columns, bytes;  // of a block
    int bits, per_scale;
    bool least, nested;
};

const Source* source(std::string_view name);

// The matrix whose row i is row `order[i]` of `data` (i itself where `order` is null). `data` holds
// as many rows as `rows`, of `columns` numbers each, a whole number of blocks.
Matrix pack(Arena& arena, const Source& from, const std::uint8_t* data, int rows, int columns,
            const std::int32_t* order);

// Row `row` as float32 numbers: exactly what its stored ones mean
void unpack_row(const Matrix& m, int row, float* out);

}  // namespace lucid
