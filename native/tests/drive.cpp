// Every path of the engine once, on small random models, for the sanitizers to watch: all formats of
// weights, all instruction sets that this processor has, several threads, batches and forks, whole
// pages and ragged ends, an encoder with a decoder, and values that are kept and edited on the way.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>

#include "../src/model.h"
#include "../src/pack.h"

using namespace lucid;

namespace {

std::mt19937 random_bits(1);
Arena arena(2);

std::shared_ptr<const Matrix> matrix(const std::string& format, int rows, int columns) {
    const Source* from = source(format);
    if (columns % from->columns) return matrix("F32", rows, columns);
    const int blocks = columns / from->columns;
    std::vector<std::uint8_t> data(std::size_t(rows) * std::size_t(blocks) * std::size_t(from->bytes));
    if (format == "F32") {
        for (std::size_t at = 0; at < data.size(); at += 4) {
            float value = float(int(random_bits() % 200) - 100) / 500.0f;
            std::memcpy(&data[at], &value, 4);
        }
    } else {
        // small scales wherever a format has them: the exponent's upper bits of every 16 are cleared
        for (auto& byte : data) byte = std::uint8_t(random_bits());
        const bool halves = format == "F16" || format == "BF16";
        for (std::size_t block = 0; block < data.size(); block += std::size_t(from->bytes))
            for (int at : {0, 2, from->bytes - 2})
                if (at + 1 < from->bytes) data[block + std::size_t(at) + 1] &= halves ? 0xbb : 0xa3;
    }
    return std::make_shared<const Matrix>(pack(arena, *from, data.data(), rows, columns, nullptr));
}

Norm norm(int n, bool centred) {
    Norm found;
    found.centred = centred;
    found.eps = 1e-5f;
    found.weight.assign(std::size_t((n + 31) / 32 * 32), 1.0f);
    if (centred) found.bias.assign(found.weight.size(), 0.1f);
    return found;
}

Attention attention(const std::string& format, int dim, int heads, int kv, int head_dim, bool turns) {
    Attention a;
    a.heads = heads;
    a.kv_heads = kv;
    a.head_dim = head_dim;
    a.scale = 0.1f;
    a.query.weight = matrix(format, heads * head_dim, dim);
    a.key.weight = matrix(format, kv * head_dim, dim);
    a.value.weight = matrix(format, kv * head_dim, dim);
    a.output.weight = matrix(format, dim, heads * head_dim);
    if (turns) a.frequencies.assign(std::size_t(head_dim / 2), 0.3f);
    return a;
}

Stack stack(const std::string& format, int dim, bool crosses, Mask mask) {
    Stack found;
    found.mask = mask;
    found.final_norm = norm(dim, crosses);
    for (int at = 0; at < 2; ++at) {
        Layer layer;
        layer.attention = attention(format, dim, 4, 2, dim / 4, !crosses);
        layer.attention.window = at ? 9 : 0;
        layer.attention_norm.input = norm(dim, false);
        if (crosses) {
            layer.cross = attention(format, dim, 4, 4, dim / 4, false);
            layer.cross_norm.residual = norm(dim, true);
        }
        layer.feedforward_norm.input = norm(dim, false);
        layer.up.weight = matrix(format, 2 * dim, dim);
        layer.gate.weight = at ? nullptr : matrix(format, 2 * dim, dim);
        layer.down.weight = matrix(format, dim, 2 * dim);
        found.layers.push_back(std::move(layer));
    }
    if (crosses) {
        found.reach = 5;
        found.bias.assign(4 * 11, 0.2f);
    }
    return found;
}

std::vector<Token> tokens(const std::vector<Sequence*>& sequences, const std::vector<int>& counts, int vocab) {
    std::vector<Token> found;
    for (std::size_t row = 0; row < sequences.size(); ++row)
        for (int at = 0; at < counts[row]; ++at)
            found.push_back({int(row), sequences[row]->length + at, int(random_bits() % unsigned(vocab)), 0});
    return found;
}

void drive(const std::string& format, const Kernels& kernels, int dim, bool crosses) {
    const int vocab = 71;
    Model model({dim, vocab}, kernels, 3);
    model.table = matrix(format, vocab, dim);
    model.decoder = stack(format, dim, crosses, Mask::CAUSAL);
    if (crosses) model.encoder = stack(format, dim, false, Mask::FULL);
    model.head = Head{};
    model.head->table = model.table;
    model.finish();
    Sequence one, two;
    if (crosses) {
        std::vector<float> vectors(std::size_t(70 * dim));
        std::vector<Sequence*> source{&one};
        std::vector<int> every(70);
        for (int at = 0; at < 70; ++at) every[std::size_t(at)] = at;
        model.encode(tokens(source, {70}, vocab), 1, every, vectors.data(), nullptr, nullptr);
        model.remember(one, vectors.data(), 70);
        model.remember(two, vectors.data(), 3);
    }
    std::vector<float> logits(std::size_t(400 * vocab));
    auto read = [&](std::vector<Sequence*> rows, std::vector<int> counts, const Watch* watch) {
        auto read = tokens(rows, counts, vocab);
        std::vector<int> wanted;
        for (int at = 0; at < int(read.size()); ++at) wanted.push_back(at);
        model.step(rows, read, wanted, logits.data(), watch);
    };
    read({&one, &two}, {150, 3}, nullptr);
    Sequence fork = one;
    read({&one, &two, &fork}, {1, 1, 1}, nullptr);
    fork.truncate(63);
    Watch watch;
    watch.targets.resize(std::size_t(Watch::of_layer(2, 0)));
    watch.span = 176;
    std::vector<std::vector<float>> kept;
    std::mutex mutex;
    long edits = 0;
    for (std::size_t site = 0; site < watch.targets.size(); ++site) {
        kept.emplace_back(std::size_t(8 * 4 * 176 + 8 * 2 * dim + 8 * vocab));
        watch.targets[site].to = kept.back().data();
        watch.targets[site].edited = site % 5 == 0;
    }
    watch.edit = [&](int, int, float* values, int width) {
        std::lock_guard lock(mutex);
        ++edits;
        for (int at = 0; at < width; ++at) values[at] *= 1.5f;
    };
    read({&one, &fork}, {2, 5}, &watch);
    if (!edits) std::abort();
}

}  // namespace

int main() {
    for (const Kernels* kernels : available())
        for (const char* format : {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"})
            for (bool crosses : {false, true})
                for (int dim : {64, 256, 36}) drive(format, *kernels, dim, crosses);
    std::puts("clean");
}
