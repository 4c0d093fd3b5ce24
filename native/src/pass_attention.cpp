// The attention sublayer of a pass: queries, keys and values of the tokens, and what they see.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pass.h"

namespace lucid {

void Pass::attention(int thread, const Attention& a, const AddNorm& around, const Place& place) {
    std::initializer_list<const Matrix*> all = {a.query.weight.get(), a.key.weight.get(), a.value.weight.get()};
    std::initializer_list<const Matrix*> one = {a.query.weight.get()};
    Rows& input = before(thread, around, place.layer, place.norm, place.crosses ? one : all);
    product(thread, a.query, input, rows_, query_);
    if (!place.crosses) {
        product(thread, a.key, input, rows_, key_);
        product(thread, a.value, input, rows_, value_);
    }
    pool_.barrier();
    turn(thread, a, place);
    pool_.barrier();
    bool openly = is_watched(Watch::of_layer(place.layer, place.query + POSITION_BIAS - QUERY));
    for (int site : {PRODUCTS, SCORES, PATTERN})
        openly |= is_edited(Watch::of_layer(place.layer, place.query + site - QUERY));
    openly ? attend_openly(thread, a, place) : attend(thread, a, place);
    pool_.barrier();
    Share mine = share(thread);
    for (int at = mine.begin; at < mine.end; ++at) {
        show(Watch::of_layer(place.layer, place.query + MIXED - QUERY), at, mixed_.row(at), a.heads * a.head_dim);
        prepare(mixed_, at, {a.output.weight.get()});
    }
    pool_.barrier();
    after(thread, around, mixed_, a.output, place.layer, place.query + ATTENTION_OUTPUT - QUERY, place.residual);
}

// Norms and rotation of heads; and keys and values into the pages
void Pass::turn(int thread, const Attention& a, const Place& place) {
    auto site = [&](int local) { return Watch::of_layer(place.layer, place.query + local - QUERY); };
    const int queries = a.heads * a.head_dim, keys = a.kv_heads * a.head_dim;
    const Rotation* rotation = a.rotation < 0 ? nullptr : &rotations_[std::size_t(a.rotation)];
    Share mine = share(thread);
    for (int at = mine.begin; at < mine.end; ++at) {
        const Token& token = tokens_[std::size_t(at)];
        const std::size_t turned = std::size_t(token.position) * a.frequencies.size();
        auto heads = [&](float* x, int count, const Norm& how, int norm_site, int rotated) {
            if (how) norm(how, x, a.head_dim, count, x, site(norm_site), at, thread);
            if (!rotation) return;
            for (int head = 0; head < count; ++head) {
                float* one = x + head * a.head_dim;
                k_.rotate(one, &rotation->cosine[turned], &rotation->sine[turned], a.head_dim, one);
            }
            show(site(rotated), at, x, count * a.head_dim);
        };
        show(site(QUERY), at, query_.row(at), queries);
        heads(query_.row(at), a.heads, a.query_norm, QUERY_NORM, QUERY_ROTATED);
        if (place.crosses) continue;
        show(site(KEY), at, key_.row(at), keys);
        show(site(VALUE), at, value_.row(at), keys);
        heads(key_.row(at), a.kv_heads, a.key_norm, KEY_NORM, KEY_ROTATED);
        Sequence& sequence = *sequences_[std::size_t(token.sequence)];
        keep(a, layout_.slots[std::size_t(place.layer)], *sequence.pages[std::size_t(token.position / PAGE)],
             token.position, at);
    }
}

// Row `row` of keys and values to `position` of its page
void Pass::keep(const Attention& a, const Slot& slot, Buffer& page, int position, int row) {
    const int place = position % PAGE;
    for (int head = 0; head < a.kv_heads; ++head) {
        const float* key = key_.row(row) + head * a.head_dim;
        float* keys = page.as<float>() + slot.key(head) + place;
        for (int d = 0; d < a.head_dim; ++d) keys[d * PAGE] = key[d];
        std::memcpy(page.as<float>() + slot.value(head) + std::size_t(place) * slot.value_width,
                    value_.row(row) + head * a.head_dim, std::size_t(a.head_dim) * 4);
    }
}

void Pass::see(const Attention& a, const Token& token, bool crosses, int& begin, int& end) const {
    begin = 0;
    if (crosses) {
        end = sequences_[std::size_t(token.sequence)]->memory_length;
        return;
    }
    switch (stack_.mask) {
        case Mask::FULL: end = ends_[std::size_t(token.sequence)]; break;
        case Mask::CAUSAL: end = token.position + 1; break;
        case Mask::STRICT: end = token.position; break;
    }
    if (a.window) begin = std::max(0, token.position - a.window + 1);
}

Keys Pass::keys(const Attention& a, const Slot& slot, int sequence, int kv, bool crosses, int thread) {
    const Sequence& s = *sequences_[std::size_t(sequence)];
    Own& own = own_[std::size_t(thread)];
    own.keys.clear();
    own.values.clear();
    for (const auto& page : crosses ? s.memory : s.pages) {
        own.keys.push_back(page->as<float>() + slot.key(kv));
        own.values.push_back(page->as<float>() + slot.value(kv));
    }
    return {own.keys.data(), own.values.data(), 0, a.head_dim, slot.value_width, a.scale, nullptr, 0};
}

// Every unit is some queries that read the same keys: heads of a group, and rows of a sequence
void Pass::attend(int thread, const Attention& a, const Place& place) {
    const Slot& slot = (place.crosses ? memory_layout_ : layout_).slots[std::size_t(place.layer)];
    const int group = a.heads / a.kv_heads;
    const int units = rows_ * group;  // of a head of keys
    // the last thread has had the work on a single token's rows: here the first gets what is over
    Share mine(units * a.kv_heads, pool_.threads() - 1 - thread, pool_.threads());
    float* room = own_[std::size_t(thread)].scores.data();
    for (int at = mine.begin; at < mine.end;) {
        const int kv = at / units, sequence = tokens_[std::size_t(at % units / group)].sequence;
        Block block;
        for (; at < mine.end && at / units == kv && block.count < QUERIES; ++at) {
            const int unit = at % units, row = unit / group, head = kv * group + unit % group;
            const Token& token = tokens_[std::size_t(row)];
            if (token.sequence != sequence) break;
            const int q = block.count++;
            block.query[q] = query_.row(row) + head * a.head_dim;
            block.position[q] = token.position;
            see(a, token, place.crosses, block.begin[q], block.end[q]);
            block.scores[q] = block.pattern[q] = room + q * room_;
            block.mixed[q] = mixed_.row(row) + head * a.head_dim;
            block.row[q] = row;
            block.head[q] = head;
        }
        mix_block(a, slot, sequence, kv, block, place, thread);
    }
}

void Pass::mix_block(const Attention& a, const Slot& slot, int sequence, int kv, Block& block, const Place& place,
                     int thread) {
    auto site = [&](int local) { return Watch::of_layer(place.layer, place.query + local - QUERY); };
    auto target = [&](int local, int q) -> float* {
        if (!watch_) return nullptr;
        float* to = watch_->targets[std::size_t(site(local))].to;
        const std::size_t at = std::size_t(first_ + block.row[q]) * std::size_t(a.heads) + std::size_t(block.head[q]);
        return to ? to + at * std::size_t(watch_->span) : nullptr;
    };
    Keys from = keys(a, slot, sequence, kv, place.crosses, thread);
    for (int q = 0; q < block.count; ++q) {
        from.count = std::max(from.count, block.end[q]);
        block.products[q] = target(PRODUCTS, q);
        if (float* to = target(SCORES, q)) block.scores[q] = to;
        if (float* to = target(PATTERN, q)) block.pattern[q] = to;
    }
    // who looks at products sees those with every key, also with hidden ones
    if (!place.crosses && (block.products[0] || is_watched(site(SCORES))))
        from.count = ends_[std::size_t(sequence)];
    // a value may be wider than a head: it is mixed aside, and then put where it belongs
    float* to[QUERIES];
    for (int q = 0; q < block.count; ++q) {
        to[q] = block.mixed[q];
        block.mixed[q] = own_[std::size_t(thread)].mixed.data() + std::size_t(q) * std::size_t(slot.value_width);
    }
    if (place.crosses || stack_.bias.empty()) {
        k_.score(block, from);
    } else {  // a table for each head
        from.reach = stack_.reach;
        for (int q = 0; q < block.count; ++q) {
            Block one = block.only(q);
            from.bias = stack_.bias.data() + std::size_t(block.head[q]) * std::size_t(2 * stack_.reach + 1);
            k_.score(one, from);
        }
    }
    for (int q = 0; q < block.count; ++q) k_.softmax(block.scores[q], from.count, block.pattern[q]);
    k_.mix(block, from);
    for (int q = 0; q < block.count; ++q) std::memcpy(to[q], block.mixed[q], std::size_t(a.head_dim) * 4);
}

// The same, one row after the other and every value on its own, for who changes what is on the way
void Pass::attend_openly(int thread, const Attention& a, const Place& place) {
    auto site = [&](int local) { return Watch::of_layer(place.layer, place.query + local - QUERY); };
    const Slot& slot = (place.crosses ? memory_layout_ : layout_).slots[std::size_t(place.layer)];
    const int span = watch_->span, group = a.heads / a.kv_heads, reach = stack_.reach;
    const bool biased = !place.crosses && !stack_.bias.empty();
    std::vector<float> products(std::size_t(a.heads) * std::size_t(span)), bias(products), scores(products);
    Share mine = share(thread);
    for (int row = mine.begin; row < mine.end; ++row) {
        const Token& token = tokens_[std::size_t(row)];
        int begin, end;
        see(a, token, place.crosses, begin, end);
        const int count = place.crosses ? end : ends_[std::size_t(token.sequence)];
        auto each = [&](auto&& work) {
            for (int head = 0; head < a.heads; ++head) {
                Keys from = keys(a, slot, token.sequence, head / group, place.crosses, thread);
                from.count = count;
                Block block;
                block.count = 1;
                block.query[0] = query_.row(row) + head * a.head_dim;
                block.begin[0] = begin;
                block.end[0] = end;
                block.position[0] = token.position;
                block.products[0] = products.data() + std::size_t(head) * std::size_t(span);
                block.scores[0] = block.pattern[0] = scores.data() + std::size_t(head) * std::size_t(span);
                block.mixed[0] = own_[std::size_t(thread)].mixed.data();
                work(head, block, from);
            }
        };
        each([&](int, Block& block, Keys& from) { k_.score(block, from); });
        show(site(PRODUCTS), row, products.data(), a.heads * span);
        if (biased) {
            for (int head = 0; head < a.heads; ++head)
                for (int key = 0; key < count; ++key) {
                    int distance = std::clamp(key - token.position, -reach, reach);
                    bias[std::size_t(head * span + key)] = stack_.bias[std::size_t(head * (2 * reach + 1) + distance + reach)];
                }
            show(site(POSITION_BIAS), row, bias.data(), a.heads * span);
        }
        for (int head = 0; head < a.heads; ++head)
            for (int key = 0; key < span; ++key) {
                const std::size_t at = std::size_t(head * span + key);
                float score = products[at] * a.scale;
                if (biased) score += bias[at];
                scores[at] = key >= begin && key < end ? score : -INFINITY;
            }
        show(site(SCORES), row, scores.data(), a.heads * span);
        for (int head = 0; head < a.heads; ++head) {
            float* one = scores.data() + std::size_t(head) * std::size_t(span);
            k_.softmax(one, lanes(count) <= span ? count : span, one);
            for (int key = lanes(count); key < span; ++key) one[key] = 0.0f;
        }
        show(site(PATTERN), row, scores.data(), a.heads * span);
        each([&](int head, Block& block, Keys& from) {
            block.begin[0] = 0;  // an edit may have given weight to what was hidden
            block.end[0] = count;
            k_.mix(block, from);
            std::memcpy(mixed_.row(row) + head * a.head_dim, block.mixed[0], std::size_t(a.head_dim) * 4);
        });
    }
}

}  // namespace lucid
