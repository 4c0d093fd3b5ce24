// The functions of one number: exp and what is made of it, sixteen at a time.

#pragma once

#include "kernels.h"
#include "vector.h"

namespace lucid::LUCID_TARGET {

// c0 x^n + c1 x^(n-1) + ... by Horner's rule
template <int N>
inline F32 polynomial(const F32& x, const float (&coefficients)[N]) {
    F32 p = all(coefficients[0]);
    for (int at = 1; at < N; ++at) p = fma(p, x, all(coefficients[at]));
    return p;
}

// e^x to about one unit in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r
// (Cephes' expf), and n added to the exponent. Below the smallest normal number it is 0.
inline F32 exp(const F32& x) {
    const F32 low = all(-87.33654f), high = all(88.37626f);
    F32 within = select(less(x, low), low, x);  // what is no number stays none
    within = select(less(high, within), high, within);
    const F32 shifted = fma(within, all(1.44269504088896341f), all(12582912.0f));  // 1.5 * 2^23: rounds
    const F32 n = shifted - all(12582912.0f);
    F32 r = fma(n, all(-0.693359375f), within);
    r = fma(n, all(2.12194440e-4f), r);
    F32 p = polynomial(r, {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                           1.6666665459e-1f, 5.0000001201e-1f});
    p = fma(p * r, r, r) + all(1.0f);
    const I32 exponent = (converted<std::int32_t>(n) + all(127)) << 23;
    return select(less(x, low), F32{}, p * as<float>(exponent));
}

inline F32 sigmoid(const F32& x) {
    return all(1.0f) / (all(1.0f) + exp(-x));
}

// Near 0 the quotient would lose what is small: there the odd series x - x^3/3 + ... is exact enough.
inline F32 tanh(const F32& x) {
    const F32 square = x * x;
    const F32 p = polynomial(square, {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f,
                                      1.33314422036e-1f, -3.33332819422e-1f});
    const F32 near = fma(p * square, x, x);
    const F32 size = absolute(x);
    const F32 far = all(1.0f) - all(2.0f) / (exp(size + size) + all(1.0f));
    return select(less(size, all(0.625f)), near, select(less(x, F32{}), -far, far));
}

// x Phi(x), by the C library's erf of each number
inline F32 gelu(const F32& x) {
    alignas(64) float lanes[LANES];
    store(lanes, x);
    for (float& lane : lanes) lane = 0.5f * lane * (1.0f + std::erf(lane * 0.70710678118654752f));
    return load<F32>(lanes);
}

// Hendrycks & Gimpel (2016)'s approximation
inline F32 gelu_tanh(const F32& x) {
    const F32 inner = all(0.79788456080286536f) * fma(all(0.044715f) * x * x, x, x);
    return all(0.5f) * x * (all(1.0f) + tanh(inner));
}

inline F32 activate(Activation kind, const F32& x) {
    switch (kind) {
        case Activation::RELU: return select(less(F32{}, x), x, F32{});
        case Activation::GELU: return gelu(x);
        case Activation::GELU_TANH: return gelu_tanh(x);
        case Activation::SILU: return x * sigmoid(x);
        case Activation::SIGMOID: return sigmoid(x);
        case Activation::TANH: return tanh(x);
    }
    return x;
}

}  // namespace lucid::LUCID_TARGET
