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
    const std::uint64_t* high = nullptr;

    Weights() = default;
    Weights(const Matrix& m, int at)
        : low(m.values.as() + std::size_t(at) * m.tile_bytes()),
          high(m.high.as<std::uint64_t>() + std::size_t(at) * m.tile_high_bytes() / 8) {}

    // Columns 8j to 8j + 3 in `a`, 8j + 4 to 8j + 7 in `b`
    void eight(int j, U8& a, U8& b) const {
        if constexpr (BITS == 8) {
            a = load<U8>(low + j * 128);
            b = load<U8>(low + j * 128 + 64);
            return;
        }
        const U8 nibble = filled<U8>(std::uint8_t(15)), both = load<U8>(low + j * 64);
        a = both & nibble;
        b = as<std::uint8_t>(as<std::uint16_t>(both) >> 4) & nibble;
        if constexpr (BITS >= 5) {
            constexpr int WORDS = 2 * (BITS - 4);
            a = a | chosen(high + j * WORDS, 16);
            b = b | chosen(high + j * WORDS + 1, 16);
            if constexpr (BITS == 6) {
                a = a | chosen(high + j * WORDS + 2, 32);
                b = b | chosen(high + j * WORDS + 3, 32);
            }
        }
    }

    // `bit` in the bytes that `mask` names, else 0
    static U8 chosen(const std::uint64_t* mask, std::uint8_t bit) {
#if defined(__AVX512BW__)
        return {reinterpret_cast<U8::Raw>(_mm512_maskz_set1_epi8(*mask, char(bit)))};
#elif defined(__AVX2__)
        // each byte of the mask to the eight bytes that its bits are about, and of it their own bit
        const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
        const __m256i own = _mm256_set1_epi64x(std::int64_t(0x8040201008040201u));
        auto half = [&](int at) {
            std::int32_t part;
            std::memcpy(&part, reinterpret_cast<const std::uint8_t*>(mask) + at * 4, 4);
            const __m256i bits = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(part), spread), own);
            const __m256i there = _mm256_and_si256(_mm256_cmpeq_epi8(bits, own), _mm256_set1_epi8(char(bit)));
            return Vec<std::uint8_t, 32>{reinterpret_cast<Vec<std::uint8_t, 32>::Raw>(there)};
        };
        return both(half(0), half(1));
#else
        std::uint8_t lanes[64];
        for (int at = 0; at < 64; ++at) lanes[at] = std::uint8_t((*mask >> at & 1) * bit);
        return load<U8>(lanes);
#endif
    }
};

// Sums of products with unsigned ints of BITS, of at most 32 columns
#if defined(__AVX512VNNI__)

template <int BITS>
struct Sums {
    using X = std::int8_t;
    static const X* of(const Ints& x) { return x.bytes; }

    I32 total{};

    void add(const U8& a, const U8& b, const X* x) {
        total.raw = dot(dot(total.raw, a, x), b, x + 4);
    }
    I32 whole() const { return total; }

  private:
    static I32::Raw dot(I32::Raw sum, const U8& w, const X* x) {
        std::int32_t four;
        std::memcpy(&four, x, 4);
        return reinterpret_cast<I32::Raw>(_mm512_dpbusd_epi32(
            reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(w.raw), _mm512_set1_epi32(four)));
    }
};

#elif defined(__AVX2__)

using Byte32 = Vec<std::uint8_t, 32>;
using Raw32 = Vec<std::int32_t, 8>::Raw;

// Columns 0 + 1 and 2 + 3 in 16 bits, which up to six bits do not overflow: 2 * 2 * 63 * 127 < 2^15.
// With four bits 32 columns fit: 16 * 15 * 127 < 2^15.
template <int BITS>
struct Sums {
    using X = std::int8_t;
    static const X* of(const Ints& x) { return x.bytes; }

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
        std::int32_t four;
        std::memcpy(&four, x, 4);
        const __m256i broadcast = _mm256_set1_epi32(four);
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

    I32 total{};

    void add(const U8& a, const U8& b, const X* x) { total = dot(dot(total, a, x), b, x + 4); }
    I32 whole() const { return total; }

  private:
    static I32 dot(const I32& sum, const U8& w, const X* x) {
        std::int32_t pairs[2];
        std::memcpy(pairs, x, 8);
        const __m256i even = _mm256_set1_epi32(pairs[0]), odd = _mm256_set1_epi32(pairs[1]);
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
struct Sums {
    using X = std::int8_t;
    static const X* of(const Ints& x) { return x.bytes; }

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
