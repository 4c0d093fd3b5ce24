#include "model.h"

#include <algorithm>

#include "pass.h"

namespace lucid {
namespace {

constexpr std::size_t CHUNK = 128;  // tokens that go through a decoder together

// Empty sequences with room for what is to be read
struct Fresh {
    std::vector<Sequence> sequences;
    std::vector<Sequence*> pointers;

    Fresh(std::span<const Token> tokens, int count, const Layout& layout) : sequences(std::size_t(count)) {
        std::vector<int> lengths(std::size_t(count), 0);
        for (const Token& token : tokens) ++lengths[std::size_t(token.sequence)];
        for (std::size_t at = 0; at < sequences.size(); ++at) {
            sequences[at].make_room(lengths[at], layout);
            pointers.push_back(&sequences[at]);
        }
    }
};

}  // namespace

Model::Model(Dimensions dimensions, const Kernels& kernels, int threads)
    : dimensions_(dimensions), kernels_(kernels), pool_(threads) {}

Model::~Model() = default;

void Model::finish() {
    if (encoder) encoder_ = std::make_unique<Pass>(*this, *encoder);
    if (decoder) decoder_ = std::make_unique<Pass>(*this, *decoder);
}

void Model::step(std::span<Sequence* const> sequences, std::span<const Token> tokens, std::span<const int> wanted,
                 float* logits, const Watch* watch) {
    std::lock_guard lock(mutex_);
    std::vector<int> counts(sequences.size(), 0);
    for (const Token& token : tokens) ++counts[std::size_t(token.sequence)];
    for (std::size_t at = 0; at < sequences.size(); ++at) sequences[at]->make_room(counts[at], decoder_->layout());
    const std::size_t most = watch ? tokens.size() : CHUNK;  // a score is shown with every key there is
    std::size_t next = 0;                                    // of wanted
    for (std::size_t begin = 0; begin < tokens.size(); begin += most) {
        auto chunk = tokens.subspan(begin, std::min(most, tokens.size() - begin));
        std::vector<int> here;
        float* to = logits + next * std::size_t(dimensions_.vocab);
        for (; next < wanted.size() && std::size_t(wanted[next]) < begin + chunk.size(); ++next)
            here.push_back(wanted[next] - int(begin));
        decoder_->run(sequences, chunk, here, nullptr, here.empty() ? nullptr : to, watch, int(begin));
    }
    for (std::size_t at = 0; at < sequences.size(); ++at) sequences[at]->length += counts[at];
}

void Model::encode(std::span<const Token> tokens, int sequences, std::span<const int> wanted, float* vectors,
                   float* logits, const Watch* watch) {
    std::lock_guard lock(mutex_);
    Fresh rows(tokens, sequences, encoder_->layout());
    encoder_->run(rows.pointers, tokens, wanted, vectors, logits, watch, 0);
}

void Model::remember(Sequence& sequence, const float* vectors, int length) {
    std::lock_guard lock(mutex_);
    decoder_->remember(sequence, vectors, length);
}

void Model::read_memory(const Sequence& sequence, int layer, float* keys, float* values) const {
    const Slot& slot = decoder_->memory_layout().slots[std::size_t(layer)];
    for (int head = 0; head < slot.heads; ++head)
        for (int at = 0; at < sequence.memory_length; ++at) {
            const float* page = sequence.memory[std::size_t(at / PAGE)]->as<float>();
            for (int d = 0; d < slot.head_dim; ++d) {
                *keys++ = page[slot.key(head) + std::size_t(d * PAGE + at % PAGE)];
                *values++ = page[slot.value(head) + std::size_t(at % PAGE * slot.value_width + d)];
            }
        }
}

void Model::embed_again(bool encodes, std::span<const Token> tokens, float* vectors, const Watch* watch) {
    std::lock_guard lock(mutex_);
    pass(encodes).embed_again(tokens, vectors, watch);
}

void Model::layer_again(bool encodes, int layer, std::span<const Token> tokens, int sequences, const float* memory,
                        int memory_length, float* vectors, const Watch* watch) {
    std::lock_guard lock(mutex_);
    Fresh rows(tokens, sequences, pass(encodes).layout());
    for (int at = 0; memory && at < sequences; ++at)
        decoder_->remember(rows.sequences[std::size_t(at)],
                           memory + std::size_t(at) * std::size_t(memory_length) * std::size_t(dimensions_.dim),
                           memory_length);
    pass(encodes).layer_again(layer, rows.pointers, tokens, vectors, watch);
}

void Model::norm_again(bool encodes, int rows, float* vectors, const Watch* watch) {
    std::lock_guard lock(mutex_);
    pass(encodes).norm_again(rows, vectors, watch);
}

void Model::head_again(int rows, const float* vectors, float* logits, const Watch* watch) {
    std::lock_guard lock(mutex_);
    pass(!decoder).head_again(rows, vectors, logits, watch);
}

}  // namespace lucid
