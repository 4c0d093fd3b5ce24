// Sixteen numbers at a time: the same lanes, operations and order on every processor, in one register
// where it has such, else in several.
//
// A `Vec` is a register of the compiler's own vector type, or two halves that are `Vec`s. (The
// compiler's types of more than a register's width would do the same, but go through memory.)
//
// This file and those that include it are compiled once for each instruction set, so everything in
// them lives in a namespace named after it (LUCID_TARGET).

#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace lucid::LUCID_TARGET {

#if defined(__AVX512F__)
constexpr int REGISTER = 64;  // bytes
#elif defined(__AVX2__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif

constexpr int LANES = 16;

template <class T, int N, bool FITS = (N * int(sizeof(T)) <= REGISTER)>
struct Vec;

template <class T, int N>
struct Vec<T, N, true> {
    typedef T Raw __attribute__((vector_size(N * sizeof(T))));
    Raw raw;
};

template <class T, int N>
struct Vec<T, N, false> {
    Vec<T, N / 2> low, high;
};

using F32 = Vec<float, 16>;
using I32 = Vec<std::int32_t, 16>;
using U32 = Vec<std::uint32_t, 16>;
using I16 = Vec<std::int16_t, 32>;
using U8 = Vec<std::uint8_t, 64>;

template <class T, int N>
inline Vec<T, 2 * N> both(const Vec<T, N>& low, const Vec<T, N>& high) {
    return {low, high};
}

// `work` on each register of some vectors of equally wide numbers
template <class Work, class T, int N, class... Others>
inline auto each(Work work, const Vec<T, N>& a, const Others&... others) {
    if constexpr (requires { a.raw; })
        return work(a, others...);
    else
        return both(each(work, a.low, others.low...), each(work, a.high, others.high...));
}

// Register by register: a copy of the whole would be read back through memory.
template <class V, class T>
inline V load(const T* from) {
    V found;
    if constexpr (requires { found.raw; })
        std::memcpy(&found.raw, from, sizeof found);
    else
        found = both(load<decltype(found.low)>(from), load<decltype(found.low)>(from + sizeof(found.low) / sizeof(T)));
    return found;
}

template <class V, class T>
inline void store(T* to, const V& value) {
    if constexpr (requires { value.raw; }) {
        std::memcpy(to, &value.raw, sizeof value);
    } else {
        store(to, value.low);
        store(to + sizeof(value.low) / sizeof(T), value.high);
    }
}

// Every lane x
template <class V, class T>
inline V filled(T x) {
    V found{};
    if constexpr (requires { found.raw; })
        found.raw = x - decltype(found.raw){};
    else
        found.low = found.high = filled<decltype(found.low)>(x);
    return found;
}

inline F32 all(float x) {
    return filled<F32>(x);
}

inline I32 all(std::int32_t x) {
    return filled<I32>(x);
}

#define LUCID_OPERATION(sign)                                                         \
    template <class T, int N>                                                         \
    inline Vec<T, N> operator sign(const Vec<T, N>& a, const Vec<T, N>& b) {          \
        return each([](auto x, auto y) { return decltype(x){x.raw sign y.raw}; }, a, b); \
    }
LUCID_OPERATION(+)
LUCID_OPERATION(-)
LUCID_OPERATION(*)
LUCID_OPERATION(/)
LUCID_OPERATION(&)
LUCID_OPERATION(|)
#undef LUCID_OPERATION

template <class T, int N>
inline Vec<T, N>& operator+=(Vec<T, N>& a, const Vec<T, N>& b) {
    return a = a + b;
}

template <class T, int N>
inline Vec<T, N> operator-(const Vec<T, N>& a) {
    return each([](auto x) { return decltype(x){-x.raw}; }, a);
}

template <class T, int N>
inline Vec<T, N> operator>>(const Vec<T, N>& a, int by) {
    return each([by](auto x) { return decltype(x){x.raw >> by}; }, a);
}

template <class T, int N>
inline Vec<T, N> operator<<(const Vec<T, N>& a, int by) {
    return each([by](auto x) { return decltype(x){x.raw << by}; }, a);
}

// The same bits as numbers of another kind
template <class To, class T, int N>
inline auto as(const Vec<T, N>& a) {
    return each(
        []<class S, int M>(const Vec<S, M>& x) {
            using Found = Vec<To, M * int(sizeof(S)) / int(sizeof(To))>;
            return Found{reinterpret_cast<typename Found::Raw>(x.raw)};
        },
        a);
}

// The numbers converted, as a cast does, to a kind as wide
template <class To, class T, int N>
inline Vec<To, N> converted(const Vec<T, N>& a) {
    return each(
        []<class S, int M>(const Vec<S, M>& x) {
            return Vec<To, M>{__builtin_convertvector(x.raw, typename Vec<To, M>::Raw)};
        },
        a);
}

// Where a < b every bit is set, else none
inline I32 less(const F32& a, const F32& b) {
    return each(
        []<class S, int M>(const Vec<S, M>& x, const Vec<S, M>& y) {
            return Vec<std::int32_t, M>{x.raw < y.raw};
        },
        a, b);
}

inline I32 less(const I32& a, const I32& b) {
    return each([](auto x, auto y) { return decltype(x){x.raw < y.raw}; }, a, b);
}

// a where the mask is set, else b
inline F32 select(const I32& mask, const F32& a, const F32& b) {
    return each([](auto m, auto x, auto y) { return decltype(x){m.raw ? x.raw : y.raw}; }, mask, a, b);
}

template <int N>
inline Vec<float, N> maximum(const Vec<float, N>& a, const Vec<float, N>& b) {
    return each([](auto x, auto y) { return decltype(x){x.raw > y.raw ? x.raw : y.raw}; }, a, b);
}

inline F32 absolute(const F32& a) {
    return maximum(a, -a);
}

// a * b + c, rounded once
template <int N>
inline Vec<float, N> fma(const Vec<float, N>& a, const Vec<float, N>& b, const Vec<float, N>& c) {
    return each(
        []<int M>(const Vec<float, M>& x, const Vec<float, M>& y, const Vec<float, M>& z) {
#if defined(__AVX512F__)
            return Vec<float, M>{_mm512_fmadd_ps(x.raw, y.raw, z.raw)};
#elif defined(__FMA__)
            return Vec<float, M>{_mm256_fmadd_ps(x.raw, y.raw, z.raw)};
#else
            Vec<float, M> sum;
            for (int lane = 0; lane < M; ++lane) sum.raw[lane] = std::fma(x.raw[lane], y.raw[lane], z.raw[lane]);
            return sum;
#endif
        },
        a, b, c);
}

// The first and the second half of a register's lanes
template <class T, int N, std::size_t... AT>
inline auto halved(const Vec<T, N>& x, std::index_sequence<AT...>) {
    using Half = Vec<T, N / 2>;
    return std::pair{Half{__builtin_shufflevector(x.raw, x.raw, AT...)},
                     Half{__builtin_shufflevector(x.raw, x.raw, (AT + N / 2)...)}};
}

// All lanes of a vector joined two and two: 8 pairs, 4, 2, 1
template <class T, int N, class Join>
inline T joined(const Vec<T, N>& x, Join join) {
    if constexpr (requires { x.low; }) {
        return joined(join(x.low, x.high), join);
    } else if constexpr (N * sizeof(T) > 16) {
        auto [low, high] = halved(x, std::make_index_sequence<N / 2>{});
        return joined(join(low, high), join);
    } else {
        Vec<T, 1> lanes[N];
        for (int lane = 0; lane < N; ++lane) lanes[lane].raw[0] = x.raw[lane];
        for (int width = N / 2; width; width /= 2)
            for (int lane = 0; lane < width; ++lane) lanes[lane] = join(lanes[lane], lanes[lane + width]);
        return lanes[0].raw[0];
    }
}

template <class T>
inline T sum(const Vec<T, LANES>& x) {
    return joined(x, [](const auto& a, const auto& b) { return a + b; });
}

inline float largest(const F32& x) {
    return joined(x, [](const auto& a, const auto& b) { return maximum(a, b); });
}

// Sixteen numbers of 16 bits, each register of them widened by `widen`
template <int N = LANES, class Widen>
inline auto widened(const std::uint16_t* from, Widen widen) {
    if constexpr (N * 4 <= REGISTER)
        return widen(load<Vec<std::uint16_t, N>>(from));
    else
        return both(widened<N / 2>(from, widen), widened<N / 2>(from + N / 2, widen));
}

// Bits above bits
template <int N>
inline Vec<std::uint32_t, N> longer(const Vec<std::uint16_t, N>& x) {
    return {__builtin_convertvector(x.raw, typename Vec<std::uint32_t, N>::Raw)};
}

// Sixteen whole numbers of 8 bits
inline F32 wholes(const std::int8_t* from) {
#if defined(__AVX512F__)
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
#elif defined(__AVX2__)
    auto eight = [](const std::int8_t* at) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
        return Vec<float, 8>{_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))};
    };
    return both(eight(from), eight(from + 8));
#else
    alignas(64) std::int32_t lanes[LANES];
    for (int at = 0; at < LANES; ++at) lanes[at] = from[at];
    return converted<float>(load<I32>(lanes));
#endif
}

// Numbers in bfloat16, which are the upper halves of float32
inline F32 uppers(const std::uint16_t* from) {
    return widened(from, [](auto x) { return as<float>(longer(x) << 16); });
}

// Half-precision numbers (IEEE 754 binary16), widened exactly
inline F32 halves(const std::uint16_t* from) {
    return widened(from, []<int N>(const Vec<std::uint16_t, N>& x) {
#if defined(__AVX512F__)
        return Vec<float, N>{_mm512_cvtph_ps(reinterpret_cast<__m256i>(x.raw))};
#elif defined(__F16C__)
        return Vec<float, N>{_mm256_cvtph_ps(reinterpret_cast<__m128i>(x.raw))};
#else
        // The exponent's bias is 15 there and 127 here: a multiplication by 2^112 moves it, and
        // subnormal numbers with it; what was infinite or no number is so again.
        auto bits = longer(x).raw;
        auto sign = (bits & 0x8000u) << 16, rest = (bits & 0x7fffu) << 13;
        auto moved = reinterpret_cast<typename Vec<float, N>::Raw>(rest) * std::bit_cast<float>(0x77800000u);  // 2^112
        auto special = reinterpret_cast<decltype(bits)>(rest >= (0x7c00u << 13)) & 0x7f800000u;
        return as<float>(Vec<std::uint32_t, N>{reinterpret_cast<decltype(bits)>(moved) | special | sign});
#endif
    });
}

}  // namespace lucid::LUCID_TARGET
