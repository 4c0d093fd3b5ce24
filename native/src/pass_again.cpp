// One part of a pass again, from given vectors; and the encoder's, which a decoder remembers.

#include <algorithm>
#include <cstring>

#include "pass.h"

namespace lucid {

void Pass::embed_again(std::span<const Token> tokens, float* vectors, const Watch* watch) {
    Sequence none;
    int count = 1;
    for (const Token& token : tokens) count = std::max(count, token.sequence + 1);
    std::vector<Sequence*> sequences(std::size_t(count), &none);
    begin(sequences, tokens, watch, 0);
    pool_.run([&](int thread) { embed(thread); });
    const int dim = model_.dimensions_.dim;
    for (int at = 0; at < rows_; ++at)
        std::memcpy(vectors + std::size_t(at) * dim, x_.row(at), std::size_t(dim) * 4);
}

void Pass::layer_again(int at, std::span<Sequence* const> sequences, std::span<const Token> tokens, float* vectors,
                       const Watch* watch) {
    begin(sequences, tokens, watch, 0);
    const int dim = model_.dimensions_.dim;
    for (int row = 0; row < rows_; ++row) {
        blank(x_.row(row), dim, x_.width);
        std::memcpy(x_.row(row), vectors + std::size_t(row) * dim, std::size_t(dim) * 4);
    }
    pool_.run([&](int thread) { layer(thread, at); });
    for (int row = 0; row < rows_; ++row)
        std::memcpy(vectors + std::size_t(row) * dim, x_.row(row), std::size_t(dim) * 4);
}

void Pass::norm_again(int rows, float* vectors, const Watch* watch) {
    watch_ = watch;
    first_ = 0;
    const int dim = model_.dimensions_.dim;
    for (int at = 0; at < rows; ++at) {
        float* x = vectors + std::size_t(at) * dim;
        norm(stack_.final_norm, x, dim, 1, x, FINAL_NORM, at, 0);
    }
}

void Pass::head_again(int rows, const float* vectors, float* logits, const Watch* watch) {
    watch_ = watch;
    first_ = 0;
    const int dim = model_.dimensions_.dim;
    last_.make_room(rows);
    more_.make_room(rows);
    for (int at = 0; at < rows; ++at) {
        blank(last_.row(at), dim, last_.width);
        std::memcpy(last_.row(at), vectors + std::size_t(at) * dim, std::size_t(dim) * 4);
    }
    pool_.run([&](int thread) { head(thread, rows, logits); });
}

void Pass::remember(Sequence& sequence, const float* vectors, int length) {
    const int dim = model_.dimensions_.dim;
    watch_ = nullptr;
    rows_ = length;
    for (Rows* rows : {&x_, &key_, &value_}) rows->make_room(length);
    for (int at = 0; at < length; ++at) {
        blank(x_.row(at), dim, x_.width);
        std::memcpy(x_.row(at), vectors + std::size_t(at) * dim, std::size_t(dim) * 4);
    }
    const std::size_t pages = std::size_t(length + PAGE - 1) / PAGE;
    sequence.memory.clear();
    for (std::size_t page = 0; page < pages; ++page)
        sequence.memory.push_back(std::make_shared<Buffer>(memory_layout_.floats * 4));
    sequence.memory_length = length;
    pool_.run([&](int thread) {
        Share mine = share(thread);
        for (std::size_t at = 0; at < stack_.layers.size(); ++at) {
            const Attention& c = stack_.layers[at].cross;
            for (int row = mine.begin; row < mine.end; ++row)
                prepare(x_, row, {c.key.weight.get(), c.value.weight.get()});
            pool_.barrier();
            product(thread, c.key, x_, length, key_);
            product(thread, c.value, x_, length, value_);
            pool_.barrier();
            for (int row = mine.begin; row < mine.end; ++row) {
                if (c.key_norm) norm(c.key_norm, key_.row(row), c.head_dim, c.kv_heads, key_.row(row), 0, row, thread);
                keep(c, memory_layout_.slots[at], *sequence.memory[std::size_t(row / PAGE)], row, row);
            }
            pool_.barrier();
        }
    });
}

}  // namespace lucid
