// Weights of few bits, and the exact sums of their products with bytes: four columns of sixteen rows
// are one vector of 64 bytes, and its lane of 32 bits sums the four products of its row.

#pragma once

#include "matrix.h"
#include "vector.h"

namespace lucid::LUCID_TARGET {

// The unsigned ints of one tile, eight columns at a time
template <int BITS>
struct Weights {
    const std::uint8_t* low = nullptr;
    const std::uint8_t* high = nullptr;

    Weights() = default;
    Weights(const Matrix& m, int at)
        : low(m.values.as() + std::size_t(at) * m.tile_bytes()),
          high(m.high.as() + std::size_t(at) * m.tile_high_bytes()) {}

    // Of the `steps` times eight columns number `part`, the eight number `step`: the first four of them
    // in `a`, the others in `b`
    void eight(int part, int steps, int step, U8& a, U8& b) const {
        const int j = part * steps + step;
        if constexpr (BITS == 8) {
            a = load<U8>(low + j * 128);
            b = load<U8>(low + j * 128 + 64);
            return;
        }
        const U8 nibble = filled<U8>(std::uint8_t(15)), both = load<U8>(low + j * 64);
        a = both & nibble;
        b = as<std::uint8_t>(as<std::uint16_t>(both) >> 4) & nibble;
        if constexpr (BITS == 5 || BITS == 6) {
            constexpr int STEPS = 4 / (BITS - 4);  // whose higher bits share 64 bytes
            const auto bits = as<std::uint16_t>(load<U8>(high + (part * (steps / STEPS) + step / STEPS) * 64));
            a = a | upper(bits, 4 - (BITS - 4) * (step % STEPS) * 2);
            b = b | upper(bits, 4 - (BITS - 4) * (step % STEPS * 2 + 1));
        }
    }

  private:
    // The bits beyond four, once they stand where they belong
    static U8 upper(const Vec<std::uint16_t, 32>& bits, int by) {
        const auto there = by >= 0 ? bits << by : bits >> -by;
        return as<std::uint8_t>(there) & filled<U8>(std::uint8_t(BITS == 5 ? 16 : 48));
    }
};

// Whether sums of products with eight bits read pairs
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
constexpr bool WANT_PAIRS = true;
#else
constexpr bool WANT_PAIRS = false;
#endif

// What is multiplied, column by column
struct OfBytes {
    using X = std::int8_t;
    static const X* of(const Ints& x) { return x.bytes; }
    static constexpr int place(int column) { return column; }
};

// Four bytes as a number
template <class X>
inline std::int32_t word(const X* from) {
    std::int32_t found;
    std::memcpy(&found, from, sizeof found);
    return found;
}

// Sums of products with unsigned ints of BITS, of at most 32 columns
#if defined(__AVX512VNNI__)

template <int BITS>
struct Sums : OfBytes {
    I32 total{};

    void add(const U8& a, const U8& b, const X* x) {
        total.raw = dot(dot(total.raw, a, x), b, x + 4);
    }
    I32 whole() const { return total; }

  private:
    static I32::Raw dot(I32::Raw sum, const U8& w, const X* x) {
        return reinterpret_cast<I32::Raw>(_mm512_dpbusd_epi32(
            reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(w.raw), _mm512_set1_epi32(word(x))));
    }
};

#elif defined(__AVX2__)

using Byte32 = Vec<std::uint8_t, 32>;
using Raw32 = Vec<std::int32_t, 8>::Raw;

// Columns 0 + 1 and 2 + 3 in 16 bits, which up to six bits do not overflow: 2 * 2 * 63 * 127 < 2^15.
// With four bits 32 columns fit: 16 * 15 * 127 < 2^15.
template <int BITS>
struct Sums : OfBytes {
    I16 part{};
    I32 total{};

    void add(const U8& a, const U8& b, const X* x) {
        const I16 eight = products(a, x) + products(b, x + 4);
        if constexpr (BITS == 4)
            part += eight;
        else
            total += widened(eight);
    }
    I32 whole() const { return BITS == 4 ? widened(part) : total; }

  private:
    static I16 products(const U8& w, const X* x) {
        const __m256i broadcast = _mm256_set1_epi32(word(x));
        return each(
            [&](const Byte32& bytes) {
                return Vec<std::int16_t, 16>{reinterpret_cast<Vec<std::int16_t, 16>::Raw>(
                    _mm256_maddubs_epi16(reinterpret_cast<__m256i>(bytes.raw), broadcast))};
            },
            w);
    }
    static I32 widened(const I16& pairs) {
        return each(
            [](const Vec<std::int16_t, 16>& x) {
                return Vec<std::int32_t, 8>{reinterpret_cast<Raw32>(
                    _mm256_madd_epi16(reinterpret_cast<__m256i>(x.raw), _mm256_set1_epi16(1)))};
            },
            pairs);
    }
};

// Eight bits would overflow: the first and third byte, and the second and fourth, are widened first.
template <>
struct Sums<8> {
    using X = std::int16_t;
    static const X* of(const Ints& x) { return x.pairs; }
    static constexpr int place(int column) { return column / GROUP * GROUP + column % GROUP / 2; }

    I32 total{};

    void add(const U8& a, const U8& b, const X* x) { total = dot(dot(total, a, x), b, x + 2); }
    I32 whole() const { return total; }

  private:
    static I32 dot(const I32& sum, const U8& w, const X* x) {
        const __m256i even = _mm256_set1_epi32(word(x)), odd = _mm256_set1_epi32(word(x + GROUP / 2));
        return each(
            [&](const Vec<std::int32_t, 8>& so_far, const Byte32& bytes) {
                const __m256i four = reinterpret_cast<__m256i>(bytes.raw);
                const __m256i first = _mm256_madd_epi16(_mm256_and_si256(four, _mm256_set1_epi16(255)), even);
                const __m256i second = _mm256_madd_epi16(_mm256_srli_epi16(four, 8), odd);
                return Vec<std::int32_t, 8>{so_far.raw + reinterpret_cast<Raw32>(_mm256_add_epi32(first, second))};
            },
            sum, w);
    }
};

#else

template <int BITS>
struct Sums : OfBytes {
    I32 total{};

    void add(const U8& a, const U8& b, const X* x) {
        for (int at = 0; at < 4; ++at) {
            total += as<std::int32_t>(as<std::uint32_t>(a) << (24 - 8 * at) >> 24) * all(std::int32_t(x[at]));
            total += as<std::int32_t>(as<std::uint32_t>(b) << (24 - 8 * at) >> 24) * all(std::int32_t(x[at + 4]));
        }
    }
    I32 whole() const { return total; }
};

#endif

}  // namespace lucid::LUCID_TARGET
