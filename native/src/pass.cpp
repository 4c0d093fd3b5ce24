#include "pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pack.h"

namespace lucid {
namespace {

int filled(int n) {
    return (n + GROUP - 1) / GROUP * GROUP;
}

int lanes(int n) {
    return (n + 15) / 16 * 16;
}

void blank(float* x, int from, int to) {
    if (from < to) std::memset(x + from, 0, std::size_t(to - from) * 4);
}

}  // namespace

void Rows::make_room(int rows) {
    const std::size_t numbers = std::size_t(rows) * width;
    if (floats.size() >= numbers * 4) return;
    floats = Buffer(numbers * 4);
    bfloats = Buffer(numbers * 2);
    ints = Buffer(numbers);
    scales = Buffer(numbers / GROUP * 4);
    sums = Buffer(numbers / 16 * 4);
}

Activations Rows::activations(int rows) const {
    return {rows, width, floats.as<float>(), bfloats.as<std::uint16_t>(), ints.as<std::int8_t>(), scales.as<float>(),
            sums.as<std::int32_t>()};
}

void Pass::Rotation::make_room(int positions) {
    const std::size_t pairs = frequencies.size();
    for (std::size_t position = cosine.size() / pairs; position < std::size_t(positions); ++position)
        for (float frequency : frequencies) {
            const float angle = float(position) * frequency;
            cosine.push_back(std::cos(angle));
            sine.push_back(std::sin(angle));
        }
}

Pass::Pass(Model& model, Stack& stack)
    : model_(model), k_(model.kernels_), pool_(model.pool_), stack_(stack), own_(std::size_t(pool_.threads())) {
    int heads = 1, kv = 1, hidden = 1, count = 1;  // heads and kv: numbers of a row
    for (Layer& layer : stack.layers) {
        const std::vector<float>& turns = layer.attention.frequencies;
        if (!turns.empty()) {
            auto known = std::find_if(rotations_.begin(), rotations_.end(),
                                      [&](const Rotation& one) { return one.frequencies == turns; });
            layer.attention.rotation = int(known - rotations_.begin());
            if (known == rotations_.end()) rotations_.push_back({turns, {}, {}});
        }
        for (const Attention* a : {&layer.attention, &layer.cross}) {
            heads = std::max(heads, a->heads * a->head_dim);
            kv = std::max(kv, a->kv_heads * a->head_dim);
            count = std::max(count, a->heads);
        }
        hidden = std::max(hidden, layer.up.weight->rows);
        layout_.add(layer.attention.kv_heads, layer.attention.head_dim);
        if (layer.cross.query) memory_layout_.add(layer.cross.kv_heads, layer.cross.head_dim);
    }
    const int dim = model.dimensions_.dim;
    for (Rows* rows : {&x_, &normed_, &part_, &last_, &more_}) rows->width = filled(dim);
    for (Rows* rows : {&query_, &mixed_}) rows->width = filled(heads);
    for (Rows* rows : {&key_, &value_}) rows->width = filled(kv);
    for (Rows* rows : {&gate_, &up_}) rows->width = filled(hidden);
    for (Own& own : own_) {
        own.row.resize(std::size_t(filled(std::max({dim, heads, kv, hidden}))));
        own.means.resize(std::size_t(count));
        own.scales.resize(std::size_t(count));
        own.mixed.resize(std::size_t(QUERIES * (lanes(heads) + 16)));
    }
}

void Pass::begin(std::span<Sequence* const> sequences, std::span<const Token> tokens, const Watch* watch, int first) {
    sequences_ = sequences;
    tokens_ = tokens;
    watch_ = watch;
    first_ = first;
    rows_ = int(tokens.size());
    for (Rows* rows : {&x_, &normed_, &part_, &query_, &mixed_, &key_, &value_, &gate_, &up_}) rows->make_room(rows_);
    ends_.assign(sequences_.size(), 0);
    int longest = 0;
    for (const Token& token : tokens) {
        int& end = ends_[std::size_t(token.sequence)];
        end = std::max(end, token.position + 1);
        longest = std::max({longest, end, sequences_[std::size_t(token.sequence)]->memory_length});
    }
    room_ = lanes(longest);
    for (Rotation& rotation : rotations_) rotation.make_room(longest);
    for (Own& own : own_)
        if (int(own.scores.size()) < QUERIES * room_) own.scores.resize(std::size_t(QUERIES) * room_ * 3 / 2);
}

Share Pass::share(int thread) const {
    return Share(rows_, thread, pool_.threads());
}

void Pass::run(std::span<Sequence* const> sequences, std::span<const Token> tokens, std::span<const int> wanted,
               float* vectors, float* logits, const Watch* watch, int first) {
    begin(sequences, tokens, watch, first);
    last_.make_room(int(wanted.size()));
    more_.make_room(int(wanted.size()));
    pool_.run([&](int thread) {
        embed(thread);
        pool_.barrier();
        for (int at = 0; at < int(stack_.layers.size()); ++at) layer(thread, at);
        pool_.barrier();
        finish(thread, wanted, vectors, logits);
    });
}

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

void Pass::embed(int thread) {
    const Embedding& e = stack_.embedding;
    const int dim = model_.dimensions_.dim;
    float* added = own_[std::size_t(thread)].row.data();
    auto add = [&](const std::vector<float>& table, std::size_t row, int site, int at) {
        std::memcpy(added, &table[row * std::size_t(x_.width)], std::size_t(x_.width) * 4);
        show(site, at, added, dim);
        k_.add(x_.row(at), added, x_.width, x_.row(at));
    };
    Share mine = share(thread);
    for (int at = mine.begin; at < mine.end; ++at) {
        const Token& token = tokens_[std::size_t(at)];
        float* x = x_.row(at);
        blank(x, dim, x_.width);
        unpack_row(*model_.table, token.id, x);
        scale(x, e.scale);
        show(TOKENS, at, x, dim);
        if (!e.segments.empty()) add(e.segments, std::size_t(token.segment), SEGMENTS, at);
        if (!e.positions.empty()) {
            std::size_t last = e.positions.size() / std::size_t(x_.width) - 1;
            add(e.positions, std::min(std::size_t(token.position), last), POSITIONS, at);
        }
        show(SUM, at, x, dim);
        if (e.norm) norm(e.norm, x, dim, 1, x, EMBEDDING_NORM, at, thread);
    }
}

void Pass::layer(int thread, int at) {
    const Layer& layer = stack_.layers[std::size_t(at)];
    const Attention &a = layer.attention, &c = layer.cross;
    Share mine = share(thread);
    for (int row = mine.begin; row < mine.end; ++row)
        show(Watch::of_layer(at, RESIDUAL_IN), row, x_.row(row), model_.dimensions_.dim);
    attention(thread, a, layer.attention_norm, {at, ATTENTION_NORM, QUERY, RESIDUAL_MID, false});
    if (c.query)
        attention(thread, c, layer.cross_norm,
                  {at, crossed(ATTENTION_NORM), crossed(QUERY), crossed(RESIDUAL_MID), true});
    Rows& input = before(thread, layer.feedforward_norm, at, FEEDFORWARD_NORM,
                         {layer.gate ? layer.gate.weight.get() : nullptr, layer.up.weight.get()});
    product(thread, layer.up, input, rows_, up_);
    if (layer.gate) product(thread, layer.gate, input, rows_, gate_);
    bend(thread, layer, at);
    pool_.barrier();
    after(thread, layer.feedforward_norm, layer.gate ? gate_ : up_, layer.down, at, -1, FEEDFORWARD_OUTPUT,
          RESIDUAL_OUT);
}

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
    after(thread, around, mixed_, a.output, place.layer, place.query + MIXED - QUERY,
          place.query + ATTENTION_OUTPUT - QUERY, place.residual);
}

// The sublayer's input, in the forms that `readers` want
Rows& Pass::before(int thread, const AddNorm& around, int layer, int site,
                   std::initializer_list<const Matrix*> readers) {
    Rows& into = around.input ? normed_ : x_;
    Share mine = share(thread);
    for (int at = mine.begin; at < mine.end; ++at) {
        if (around.input)
            norm(around.input, x_.row(at), model_.dimensions_.dim, 1, into.row(at), Watch::of_layer(layer, site), at,
                 thread);
        prepare(into, at, readers);
    }
    pool_.barrier();
    return into;
}

// x = residual(x + output(W inner)). `mixed` is the site of what W is applied to (-1: shown already),
// `output` that of the result, behind which the norms' stand.
void Pass::after(int thread, const AddNorm& around, Rows& inner, const Linear& last, int layer, int mixed, int output,
                 int residual) {
    const int dim = model_.dimensions_.dim;
    auto site = [layer](int local) { return Watch::of_layer(layer, local); };
    Share mine = share(thread);
    for (int at = mine.begin; at < mine.end; ++at) {
        if (mixed >= 0) show(site(mixed), at, inner.row(at), last.weight->columns);
        prepare(inner, at, {last.weight.get()});
    }
    pool_.barrier();
    product(thread, last, inner, rows_, part_);
    pool_.barrier();
    for (int at = mine.begin; at < mine.end; ++at) {
        float *x = x_.row(at), *part = part_.row(at);
        show(site(output), at, part, dim);
        if (around.output) norm(around.output, part, dim, 1, part, site(output + 1), at, thread);
        k_.add(x, part, x_.width, x);
        show(site(output + 5), at, x, dim);
        if (around.residual) norm(around.residual, x, dim, 1, x, site(output + 6), at, thread);
        show(site(residual), at, x, dim);
    }
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
    const int blocks = (units + QUERIES - 1) / QUERIES;
    Share mine(blocks * a.kv_heads, thread, pool_.threads());
    float* room = own_[std::size_t(thread)].scores.data();
    for (int at = mine.begin; at < mine.end; ++at) {
        const int kv = at / blocks, first = at % blocks * QUERIES;
        const int last = std::min(units, first + QUERIES);
        for (int unit = first; unit < last;) {  // one block, or more where sequences meet
            const int sequence = tokens_[std::size_t(unit / group)].sequence;
            Block block;
            while (unit < last && tokens_[std::size_t(unit / group)].sequence == sequence) {
                const int row = unit / group, head = kv * group + unit % group, q = block.count++;
                const Token& token = tokens_[std::size_t(row)];
                block.query[q] = query_.row(row) + head * a.head_dim;
                block.position[q] = token.position;
                see(a, token, place.crosses, block.begin[q], block.end[q]);
                block.scores[q] = block.pattern[q] = room + q * room_;
                block.mixed[q] = mixed_.row(row) + head * a.head_dim;
                block.row[q] = row;
                block.head[q] = head;
                ++unit;
            }
            mix_block(a, slot, sequence, kv, block, place, thread);
        }
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

// The activation, on the columns that this thread has just computed; or on whole rows, where
// somebody looks
void Pass::bend(int thread, const Layer& layer, int at) {
    const int hidden = layer.up.weight->rows;
    auto bend_columns = [&](int row, int first, int width) {
        auto site = [at](int local) { return Watch::of_layer(at, local); };
        float *up = up_.row(row) + first, *gate = gate_.row(row) + first, *out = layer.gate ? gate : up;
        const bool whole = first == 0 && width == up_.width;
        if (whole && layer.gate) show(site(GATE), row, gate, hidden);
        if (whole) show(site(UP), row, up, hidden);
        k_.activate(layer.activation, out, width, out);
        if (first + width > hidden) blank(out - first, hidden, first + width);
        if (whole) show(site(ACTIVATED), row, out, hidden);
        if (!layer.gate) return;
        k_.multiply(gate, up, width, gate);
        if (whole) show(site(PRODUCT), row, gate, hidden);
    };
    bool watched = false;
    for (int site : {GATE, UP, ACTIVATED, PRODUCT}) watched |= is_watched(Watch::of_layer(at, site));
    if (watched) {
        pool_.barrier();
        Share mine = share(thread);
        for (int row = mine.begin; row < mine.end; ++row) bend_columns(row, 0, up_.width);
        return;
    }
    Share tiles(layer.up.weight->tiles, thread, pool_.threads(), 2);
    const int first = tiles.begin * TILE, width = std::min(tiles.end * TILE, up_.width) - first;
    for (int row = 0; width > 0 && row < rows_; ++row) bend_columns(row, first, width);
}

void Pass::finish(int thread, std::span<const int> wanted, float* vectors, float* logits) {
    const int dim = model_.dimensions_.dim, width = x_.width;
    bool all = vectors != nullptr;  // or those alone whose words are asked for
    for (int step = 0; step < 4; ++step) all |= is_watched(FINAL_NORM + step);
    if (all && stack_.final_norm) {
        Share mine = share(thread);
        for (int at = mine.begin; at < mine.end; ++at)
            norm(stack_.final_norm, x_.row(at), dim, 1, x_.row(at), FINAL_NORM, at, thread);
        pool_.barrier();
    }
    if (vectors) {
        Share mine = share(thread);
        for (int at = mine.begin; at < mine.end; ++at)
            std::memcpy(vectors + std::size_t(at) * std::size_t(dim), x_.row(at), std::size_t(dim) * 4);
    }
    if (!logits) return;
    const int count = int(wanted.size());
    Share mine(count, thread, pool_.threads());
    for (int at = mine.begin; at < mine.end; ++at) {
        float *x = x_.row(wanted[std::size_t(at)]), *out = last_.row(at);
        if (stack_.final_norm && !all)
            norm(stack_.final_norm, x, dim, 1, out, -1, at, thread);
        else
            std::memcpy(out, x, std::size_t(width) * 4);
    }
    pool_.barrier();
    head(thread, count, logits);
}

void Pass::head(int thread, int rows, float* logits) {
    const Head& head = *model_.head;
    const int dim = model_.dimensions_.dim, vocab = model_.dimensions_.vocab;
    Share mine(rows, thread, pool_.threads());
    if (head.transform) {
        for (int at = mine.begin; at < mine.end; ++at) prepare(last_, at, {head.transform.weight.get()});
        pool_.barrier();
        product(thread, head.transform, last_, rows, more_);
        pool_.barrier();
        for (int at = mine.begin; at < mine.end; ++at) {
            float* x = more_.row(at);
            show(HEAD_PROJECTED, at, x, dim);
            k_.activate(head.activation, x, more_.width, x);
            blank(x, dim, more_.width);
            show(HEAD_ACTIVATED, at, x, dim);
            if (head.norm)
                norm(head.norm, x, dim, 1, last_.row(at), HEAD_NORM, at, thread);
            else
                std::memcpy(last_.row(at), x, std::size_t(last_.width) * 4);
            show(HEAD_TRANSFORMED, at, last_.row(at), dim);
        }
    }
    for (int at = mine.begin; at < mine.end; ++at) {
        scale(last_.row(at), head.scale);
        prepare(last_, at, {head.table.get()});
    }
    pool_.barrier();
    Share tiles(head.table->tiles, thread, pool_.threads(), 2);
    const int first = tiles.begin * TILE, count = (tiles.end - tiles.begin) * TILE;
    const int real = std::min(count, vocab - first);
    if (real == count) {
        k_.product(*head.table, tiles.begin, tiles.end, last_.activations(rows), logits, vocab);
        for (int row = 0; row < rows && !head.bias.empty(); ++row) {
            float* to = logits + std::size_t(row) * std::size_t(vocab) + first;
            for (int at = 0; at < real; ++at) to[at] += head.bias[std::size_t(first + at)];
        }
    } else if (real > 0) {  // whole tiles would run over the end of a row
        std::vector<float>& into = own_[std::size_t(thread)].logits;
        into.resize(std::size_t(rows) * std::size_t(count));
        k_.product(*head.table, tiles.begin, tiles.end, last_.activations(rows), into.data() - first, count);
        for (int row = 0; row < rows; ++row) {
            float *from = into.data() + std::size_t(row) * std::size_t(count);
            float *to = logits + std::size_t(row) * std::size_t(vocab) + first;
            for (int at = 0; at < real; ++at)
                to[at] = head.bias.empty() ? from[at] : from[at] + head.bias[std::size_t(first + at)];
        }
    }
    if (!is_watched(LOGITS)) return;
    pool_.barrier();
    for (int at = mine.begin; at < mine.end; ++at)
        show(LOGITS, at, logits + std::size_t(at) * std::size_t(vocab), vocab);
}

void Pass::product(int thread, const Linear& linear, Rows& from, int rows, Rows& to) {
    const Matrix& m = *linear.weight;
    Share tiles(m.tiles, thread, pool_.threads(), 2);
    if (tiles.begin == tiles.end) return;
    k_.product(m, tiles.begin, tiles.end, from.activations(rows), to.floats.as<float>(), to.width);
    if (linear.bias.empty()) return;
    const int first = tiles.begin * TILE, width = (tiles.end - tiles.begin) * TILE;
    for (int row = 0; row < rows; ++row) {
        float* y = to.row(row) + first;
        k_.add(y, linear.bias.data() + first, width, y);
    }
}

// The forms of a row that these matrices are multiplied with
void Pass::prepare(Rows& rows, int at, std::initializer_list<const Matrix*> readers) {
    bool ints = false, bfloats = false;
    for (const Matrix* m : readers) {
        if (!m) continue;
        ints |= m->format == Format::INTS;
        bfloats |= m->format == Format::BF16 && k_.dots_bfloats;
    }
    const int width = rows.width;
    const std::size_t row = std::size_t(at);
    if (ints)
        k_.round_to_ints(rows.row(at), width, rows.ints.as<std::int8_t>() + row * std::size_t(width),
                         rows.scales.as<float>() + row * std::size_t(width / GROUP),
                         rows.sums.as<std::int32_t>() + row * std::size_t(width / 16));
    if (bfloats) k_.round_to_bfloats(rows.row(at), width, rows.bfloats.as<std::uint16_t>() + row * std::size_t(width));
}

// Of `parts` times n numbers side by side, each part by itself; `site` is the first of its four
void Pass::norm(const Norm& how, const float* x, int n, int parts, float* out, int site, int row, int thread) {
    Own& own = own_[std::size_t(thread)];
    float *means = own.means.data(), *scales = own.scales.data();
    auto step = [site](int number) { return site < 0 ? -1 : site + number; };
    for (int part = 0; part < parts; ++part) means[part] = how.centred ? k_.mean(x + part * n, n) : 0.0f;
    if (how.centred) show(step(0), row, means, parts);
    for (int part = 0; part < parts; ++part) scales[part] = k_.deviation(x + part * n, n, means[part], how.eps);
    show(step(1), row, scales, parts);
    for (int part = 0; part < parts; ++part) k_.normalize(x + part * n, n, means[part], scales[part], out + part * n);
    show(step(2), row, out, parts * n);
    const float* bias = how.bias.empty() ? nullptr : how.bias.data();
    for (int part = 0; part < parts; ++part) k_.weigh(out + part * n, n, how.weight.data(), bias, out + part * n);
    show(step(3), row, out, parts * n);
}

void Pass::scale(float* x, float by) const {
    if (by == 1.0f) return;
    for (int at = 0; at < x_.width; ++at) x[at] *= by;
}

bool Pass::is_watched(int site) const {
    if (!watch_) return false;
    const Watch::Target& target = watch_->targets[std::size_t(site)];
    return target.to || target.edited;
}

bool Pass::is_edited(int site) const {
    return watch_ && watch_->targets[std::size_t(site)].edited;
}

void Pass::show(int site, int row, float* values, int width) const {
    if (!watch_ || site < 0) return;
    const Watch::Target& target = watch_->targets[std::size_t(site)];
    if (target.edited) watch_->edit(site, first_ + row, values, width);
    if (target.to)
        std::memcpy(target.to + std::size_t(first_ + row) * std::size_t(width), values, std::size_t(width) * 4);
}

}  // namespace lucid
