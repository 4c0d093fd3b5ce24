#include "pack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

namespace lucid {
namespace {

constexpr Source SOURCES[] = {
    {"F32", Format::F32, Blocks::PLAIN, 1, 4, 0, 0, false, false},
    {"F16", Format::F16, Blocks::PLAIN, 1, 2, 0, 0, false, false},
    {"BF16", Format::BF16, Blocks::PLAIN, 1, 2, 0, 0, false, false},
    {"Q4_0", Format::INTS, Blocks::Q4, 32, 18, 4, 32, false, false},
    {"Q4_1", Format::INTS, Blocks::Q4, 32, 20, 4, 32, true, false},
    {"Q5_0", Format::INTS, Blocks::Q5, 32, 22, 5, 32, false, false},
    {"Q5_1", Format::INTS, Blocks::Q5, 32, 24, 5, 32, true, false},
    {"Q8_0", Format::INTS, Blocks::Q8, 32, 34, 8, 32, false, false},
    {"Q4_K", Format::INTS, Blocks::Q45_K, 256, 144, 4, 32, true, true},
    {"Q5_K", Format::INTS, Blocks::Q45_K, 256, 176, 5, 32, true, true},
    {"Q6_K", Format::INTS, Blocks::Q6_K, 256, 210, 6, 16, false, true},
};

std::uint16_t u16(const std::uint8_t* from) {
    return std::uint16_t(from[0] | from[1] << 8);
}

float half(std::uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                 : exponent     ? std::ldexp(float(1024 + fraction), exponent - 25)
                                : std::ldexp(float(fraction), -24);
    return bits & 0x8000 ? -size : size;
}

// One block's unsigned ints, and the scale and least of each of its groups
struct Unpacked {
    std::uint8_t q[256];
    std::uint16_t scale[16], least[16];            // float16
    std::int8_t nested_scale[16], nested_least[16];  // times these float16:
    std::uint16_t unit, least_unit;
};

// 5-bit ints: four bits and, in `high`, the fifth
void fives(const std::uint8_t* nibbles, std::uint32_t high, std::uint8_t* q) {
    for (int j = 0; j < 16; ++j) {
        q[j] = std::uint8_t((nibbles[j] & 15) | (high >> j & 1) << 4);
        q[j + 16] = std::uint8_t(nibbles[j] >> 4 | (high >> (j + 16) & 1) << 4);
    }
}

std::uint32_t u32(const std::uint8_t* from) {
    return u16(from) | std::uint32_t(u16(from + 2)) << 16;
}

// Eight 6-bit scales and eight 6-bit minima in twelve bytes
void scales_of_k(const std::uint8_t* packed, Unpacked& out) {
    for (int j = 0; j < 8; ++j) {
        int s, m;
        if (j < 4) {
            s = packed[j] & 63;
            m = packed[j + 4] & 63;
        } else {
            s = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
            m = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
        }
        out.nested_scale[j] = std::int8_t(s);
        out.nested_least[j] = std::int8_t(-m);
    }
}

void unpack(const Source& from, const std::uint8_t* b, Unpacked& out) {
    if (from.blocks == Blocks::Q8) {
        out.scale[0] = u16(b);
        for (int j = 0; j < 32; ++j) out.q[j] = std::uint8_t(b[2 + j] ^ 128);  // + 128
    } else if (from.blocks == Blocks::Q4 || from.blocks == Blocks::Q5) {
        out.scale[0] = u16(b);
        if (from.least) out.least[0] = u16(b + 2);
        const std::uint8_t* rest = b + (from.least ? 4 : 2);
        from.blocks == Blocks::Q4 ? fives(rest, 0, out.q) : fives(rest + 4, u32(rest), out.q);
    } else if (from.blocks == Blocks::Q45_K) {
        const bool five = from.bits == 5;
        out.unit = u16(b);
        out.least_unit = u16(b + 2);
        scales_of_k(b + 4, out);
        const std::uint8_t *high = b + 16, *nibbles = five ? b + 48 : b + 16;
        for (int pair = 0; pair < 4; ++pair)
            for (int j = 0; j < 32; ++j) {
                std::uint8_t both = nibbles[pair * 32 + j];
                int first = five ? high[j] >> (2 * pair) & 1 : 0;
                int second = five ? high[j] >> (2 * pair + 1) & 1 : 0;
                out.q[pair * 64 + j] = std::uint8_t((both & 15) | first << 4);
                out.q[pair * 64 + 32 + j] = std::uint8_t(both >> 4 | second << 4);
            }
    } else {  // Q6_K
        const std::uint8_t *low = b, *high = b + 128, *scales = b + 192;
        out.unit = u16(b + 208);
        for (int part = 0; part < 2; ++part)
            for (int j = 0; j < 32; ++j) {
                std::uint8_t h = high[part * 32 + j];
                const std::uint8_t* l = low + part * 64;
                std::uint8_t* q = out.q + part * 128;
                q[j] = std::uint8_t((l[j] & 15) | (h & 3) << 4);
                q[j + 32] = std::uint8_t((l[j + 32] & 15) | (h >> 2 & 3) << 4);
                q[j + 64] = std::uint8_t(l[j] >> 4 | (h >> 4 & 3) << 4);
                q[j + 96] = std::uint8_t(l[j + 32] >> 4 | (h >> 6 & 3) << 4);
            }
        for (int j = 0; j < 16; ++j) out.nested_scale[j] = std::int8_t(scales[j]);
    }
}

// Where the int of (row in tile, column) stands: which byte of the tile, which half of it
struct Place {
    std::size_t byte;
    bool upper;
};

Place place(const Matrix& m, int lane, int column) {
    int eight = column / 8, rest = column % 8;
    std::size_t within = std::size_t(lane * 4 + rest % 4);
    if (m.bits == 8) return {std::size_t(eight) * 128 + (rest / 4) * 64 + within, false};
    return {std::size_t(eight) * 64 + within, rest >= 4};
}

// Where the bits beyond four of (row in tile, column) stand: which byte of the tile's, from which bit on
struct Upper {
    std::size_t byte;
    int shift;
};

Upper upper(const Matrix& m, int lane, int column) {
    const int bits = m.bits - 4, columns = GROUP / bits;  // that share 64 bytes
    return {std::size_t(column / columns) * 64 + std::size_t(lane * 4 + column % 4), column % columns / 4 * bits};
}

int get_int(const Matrix& m, int row, int column) {
    std::size_t tile = std::size_t(row / TILE);
    Place at = place(m, row % TILE, column);
    std::uint8_t byte = m.values.as()[tile * m.tile_bytes() + at.byte];
    if (m.bits == 8) return byte;
    const int q = at.upper ? byte >> 4 : byte & 15;
    if (m.bits == 4) return q;
    const Upper high = upper(m, row % TILE, column);
    return q | (m.high.as()[tile * m.tile_high_bytes() + high.byte] >> high.shift & ((1 << (m.bits - 4)) - 1)) << 4;
}

// Where the scale of (row, group) stands; a group has per_scale columns
std::size_t scale_at(const Matrix& m, int row, int group) {
    std::size_t groups = std::size_t(m.padded() / m.per_scale);
    return (std::size_t(row / TILE) * groups + group) * TILE + row % TILE;
}

// Where the unit of (row, 256 columns) stands; that of the least is TILE behind it
std::size_t unit_at(const Matrix& m, int row, int super) {
    return (std::size_t(row / TILE) * std::size_t(m.padded() / SUPER) + super) * 2 * TILE + row % TILE;
}

// A scale or a least weight
float factor(const Matrix& m, const Buffer& factors, int row, int column, int behind) {
    const std::size_t at = scale_at(m, row, column / m.per_scale);
    if (!m.nested) return half(factors.as<std::uint16_t>()[at]);
    return half(m.units.as<std::uint16_t>()[unit_at(m, row, column / SUPER) + behind]) *
           float(factors.as<std::int8_t>()[at]);
}

std::uint32_t word32(const std::uint8_t* from) {
    std::uint32_t found;
    std::memcpy(&found, from, 4);
    return found;
}

// Eight columns of one row of a tile
void put_eight(Matrix& m, std::size_t tile, int lane, int column, const std::uint8_t* q) {
    std::uint8_t* values = m.values.as() + tile * m.tile_bytes();
    const std::uint32_t a = word32(q), b = word32(q + 4);
    if (m.bits == 8) {
        std::memcpy(values + column * 16 + lane * 4, &a, 4);
        std::memcpy(values + column * 16 + 64 + lane * 4, &b, 4);
        return;
    }
    const std::uint32_t both = (a & 0x0f0f0f0fu) | (b & 0x0f0f0f0fu) << 4;
    std::memcpy(values + column * 8 + lane * 4, &both, 4);
    if (m.bits == 4) return;
    const std::uint32_t mask = m.bits == 5 ? 0x01010101u : 0x03030303u;
    for (int four = 0; four < 2; ++four) {
        const Upper at = upper(m, lane, column + four * 4);
        std::uint8_t* bytes = m.high.as() + tile * m.tile_high_bytes() + at.byte;
        const std::uint32_t together = word32(bytes) | ((four ? b : a) >> 4 & mask) << at.shift;
        std::memcpy(bytes, &together, 4);
    }
}

void pack_ints(Matrix& m, const Source& from, const std::uint8_t* data, int row) {
    Unpacked found;
    const std::size_t tile = std::size_t(row / TILE);
    const int groups = from.columns / from.per_scale;
    for (int block = 0; block * from.columns < m.columns; ++block) {
        unpack(from, data + std::size_t(block) * from.bytes, found);
        for (int at = 0; at < from.columns; at += 8)
            put_eight(m, tile, row % TILE, block * from.columns + at, found.q + at);
        if (m.nested) {
            std::uint16_t* units = m.units.as<std::uint16_t>() + unit_at(m, row, block);
            units[0] = found.unit;
            units[TILE] = found.least_unit;
        }
        for (int group = 0; group < groups; ++group) {
            std::size_t at = scale_at(m, row, block * groups + group);
            if (m.nested) {
                m.scales.as<std::int8_t>()[at] = found.nested_scale[group];
                if (m.has_least) m.least.as<std::int8_t>()[at] = found.nested_least[group];
            } else {
                m.scales.as<std::uint16_t>()[at] = found.scale[group];
                if (m.has_least) m.least.as<std::uint16_t>()[at] = found.least[group];
            }
        }
    }
}

void pack_floats(Matrix& m, const std::uint8_t* data, int row) {
    std::size_t tile = std::size_t(row / TILE) * m.padded() * TILE, lane = std::size_t(row % TILE);
    for (int column = 0; column < m.columns; ++column) {
        if (m.format == Format::F32) {
            std::memcpy(m.values.as<float>() + tile + column * TILE + lane, data + column * 4, 4);
        } else {
            std::size_t at = m.format == Format::F16
                                 ? std::size_t(column) * TILE + lane
                                 : std::size_t(column / 2) * 2 * TILE + lane * 2 + column % 2;
            m.values.as<std::uint16_t>()[tile + at] = u16(data + column * 2);
        }
    }
}

}  // namespace

const Source* source(std::string_view name) {
    auto* found = std::find_if(std::begin(SOURCES), std::end(SOURCES),
                               [name](const Source& one) { return one.name == name; });
    return found == std::end(SOURCES) ? nullptr : found;
}

Matrix pack(Arena& arena, const Source& from, const std::uint8_t* data, int rows, int columns,
            const std::int32_t* order) {
    Matrix m;
    m.format = from.format;
    m.rows = rows;
    m.columns = columns;
    m.tiles = (rows + 2 * TILE - 1) / (2 * TILE) * 2;  // the kernels take two at once
    m.groups = (columns + GROUP - 1) / GROUP;
    m.bits = from.bits;
    m.per_scale = from.per_scale;
    m.has_least = from.least;
    m.nested = from.nested;
    m.values = arena.take(m.tile_bytes() * m.tiles);
    if (m.format == Format::INTS) {
        const std::size_t scales = std::size_t(m.padded() / m.per_scale) * m.tiles * TILE * (m.nested ? 1 : 2);
        m.high = arena.take(m.tile_high_bytes() * m.tiles);
        m.scales = arena.take(scales);
        m.least = arena.take(m.has_least ? scales : 0);
        if (m.nested) m.units = arena.take(std::size_t(m.padded() / SUPER) * m.tiles * TILE * 4);
    }
    const std::size_t row_bytes = std::size_t(columns) / from.columns * from.bytes;
    auto some = [&](int begin, int end) {
        for (int row = begin; row < end; ++row) {
            const std::uint8_t* at = data + row_bytes * std::size_t(order ? order[row] : row);
            m.format == Format::INTS ? pack_ints(m, from, at, row) : pack_floats(m, at, row);
        }
    };
    // whole tiles for each thread; a small matrix is not worth waking another
    const int each = std::max(256, (rows / arena.threads() / TILE + 1) * TILE);
    std::vector<std::jthread> others;
    for (int row = each; row < rows; row += each) others.emplace_back(some, row, std::min(rows, row + each));
    some(0, std::min(rows, each));
    others.clear();  // waits for them
    return m;
}

void unpack_row(const Matrix& m, int row, float* out) {
    std::size_t tile = std::size_t(row / TILE) * m.padded() * TILE, lane = std::size_t(row % TILE);
    for (int column = 0; column < m.columns; ++column) {
        switch (m.format) {
            case Format::F32: out[column] = m.values.as<float>()[tile + column * TILE + lane]; break;
            case Format::F16: out[column] = half(m.values.as<std::uint16_t>()[tile + column * TILE + lane]); break;
            case Format::BF16: {
                std::size_t at = tile + std::size_t(column / 2) * 2 * TILE + lane * 2 + column % 2;
                out[column] = std::bit_cast<float>(std::uint32_t(m.values.as<std::uint16_t>()[at]) << 16);
                break;
            }
            case Format::INTS: {
                out[column] = factor(m, m.scales, row, column, 0) * float(get_int(m, row, column) - m.zero());
                if (m.has_least) out[column] += factor(m, m.least, row, column, TILE);
            }
        }
    }
}

}  // namespace lucid
