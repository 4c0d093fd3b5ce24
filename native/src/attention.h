// Attention of some queries of one head over the keys of one sequence.
//
// Keys and values lie in pages of 64 positions: keys dimension by dimension, so that sixteen keys are
// the lanes of a vector and a score is a sum over dimensions in their order; values position by
// position. Which page a position is in depends on it alone, and sums over positions are made page by
// page, so the bits of a result do not depend on how many queries are computed together.
//
// The scores of a query are all there before the softmax: what is shown as `scores` and `pattern` is
// what was computed. A page's keys are read once for all queries of a block.

#pragma once

#include "functions.h"
#include "kernels.h"

namespace lucid::LUCID_TARGET {

inline I32 counted() {
    constexpr std::int32_t UP[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load<I32>(UP);
}

template <int N>
void score(const Block& block, const Keys& k) {
    for (int start = 0; start < k.count; start += LANES) {
        const float* page = k.keys[start / PAGE] + start % PAGE;
        F32 products[N] = {};
        for (int d = 0; d < k.head_dim; ++d) {
            F32 key = load<F32>(page + d * PAGE);
            for (int q = 0; q < N; ++q) products[q] = fma(key, all(block.query[q][d]), products[q]);
        }
        I32 at = counted() + all(start);
        for (int q = 0; q < N; ++q) {
            if (block.products[q]) store(block.products[q] + start, products[q]);
            F32 score = products[q] * all(k.scale);
            if (k.bias) {
                alignas(64) float bias[LANES];
                for (int lane = 0; lane < LANES; ++lane) {
                    int distance = start + lane - block.position[q];
                    distance = distance < -k.reach ? -k.reach : distance > k.reach ? k.reach : distance;
                    bias[lane] = k.bias[distance + k.reach];
                }
                score += load<F32>(bias);
            }
            I32 seen = less(all(block.begin[q] - 1), at) & less(at, all(block.end[q]));
            store(block.scores[q] + start, select(seen, score, all(-INFINITY)));
        }
    }
}

inline void softmax(const float* scores, int count, float* pattern) {
    F32 most = all(-INFINITY);
    for (int at = 0; at < count; at += LANES) most = maximum(most, load<F32>(scores + at));
    float top = largest(most);
    if (top == -INFINITY) {  // sees nothing, takes nothing
        for (int at = 0; at < count; at += LANES) store(pattern + at, F32{});
        return;
    }
    F32 total = {};
    for (int at = 0; at < count; at += LANES) {
        F32 power = exp(load<F32>(scores + at) - all(top));
        store(pattern + at, power);
        total += power;
    }
    F32 all_of_it = all(sum(total));
    for (int at = 0; at < count; at += LANES) store(pattern + at, load<F32>(pattern + at) / all_of_it);
}

template <int N, int V>
void mix(const Block& block, const Keys& k, int from) {
    F32 total[N][V] = {};
    int last = 0, first = k.count;
    for (int q = 0; q < N; ++q) {
        last = block.end[q] > last ? block.end[q] : last;
        first = block.begin[q] < first ? block.begin[q] : first;
    }
    for (int page = first / PAGE; page * PAGE < last; ++page) {
        F32 part[N][V] = {};
        int end = last - page * PAGE < PAGE ? last - page * PAGE : PAGE;
        const float* values = k.values[page] + from;
        for (int at = 0; at < end; ++at) {
            F32 value[V];
            for (int v = 0; v < V; ++v) value[v] = load<F32>(values + at * k.value_width + v * LANES);
            for (int q = 0; q < N; ++q) {
                F32 weight = all(block.pattern[q][page * PAGE + at]);
                for (int v = 0; v < V; ++v) part[q][v] = fma(weight, value[v], part[q][v]);
            }
        }
        for (int q = 0; q < N; ++q)
            for (int v = 0; v < V; ++v) total[q][v] += part[q][v];
    }
    for (int q = 0; q < N; ++q)
        for (int v = 0; v < V; ++v) store(block.mixed[q] + from + v * LANES, total[q][v]);
}

template <int N>
void mix(const Block& block, const Keys& k) {
    int from = 0;
    for (; from + 4 * LANES <= k.value_width; from += 4 * LANES) mix<N, 4>(block, k, from);
    for (; from < k.value_width; from += LANES) mix<N, 1>(block, k, from);
}

// `work` compiled for as many queries as there are
template <class Work>
void for_count(int count, Work work) {
    switch (count) {
        case 1: return work.template operator()<1>();
        case 2: return work.template operator()<2>();
        case 3: return work.template operator()<3>();
        default: return work.template operator()<4>();
    }
}

inline void score(const Block& block, const Keys& k) {
    for_count(block.count, [&]<int N>() { score<N>(block, k); });
}

inline void mix(const Block& block, const Keys& k) {
    for_count(block.count, [&]<int N>() { mix<N>(block, k); });
}

}  // namespace lucid::LUCID_TARGET
