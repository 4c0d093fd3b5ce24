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

}  // namespace

void Rows::make_room(int rows) {
    const std::size_t numbers = std::size_t(rows) * width;
    if (floats.size() >= numbers * 4) return;
    floats = Buffer(numbers * 4);
    bfloats = Buffer(numbers * 2);
    bytes = Buffer(numbers);
    pairs = Buffer(numbers * 2);
    scales = Buffer(numbers / GROUP * 4);
    weighted = Buffer(numbers / GROUP * 4);
    sums = Buffer(numbers / GROUP * 4);
    half_sums = Buffer(numbers / GROUP * 8);
}

Activations Rows::activations(int rows) {
    return {rows, width, floats.as<float>(), bfloats.as<std::uint16_t>(), ints(0, 0)};
}

Ints Rows::ints(int row, int column) {
    const std::size_t numbers = std::size_t(row) * width + column, groups = numbers / GROUP;
    return {bytes.as<std::int8_t>() + numbers,  pairs.as<std::int16_t>() + numbers,
            scales.as<float>() + groups,        weighted.as<float>() + groups,
            sums.as<std::int32_t>() + groups,   half_sums.as<std::int32_t>() + 2 * groups};
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
    after(thread, layer.feedforward_norm, layer.gate ? gate_ : up_, layer.down, at, FEEDFORWARD_OUTPUT, RESIDUAL_OUT);
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

// x = residual(x + output(W inner)), `inner` being in the form that W wants. `output` is the site of the
// product, behind which the norms' stand.
void Pass::after(int thread, const AddNorm& around, Rows& inner, const Linear& last, int layer, int output,
                 int residual) {
    const int dim = model_.dimensions_.dim;
    auto site = [layer](int local) { return Watch::of_layer(layer, local); };
    Share mine = share(thread);
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

// The activation, and the form that the last product wants: on the columns that this thread has just
// computed; or on whole rows, where somebody looks
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
        if (layer.gate) {
            k_.multiply(gate, up, width, gate);
            if (whole) show(site(PRODUCT), row, gate, hidden);
        }
        prepare(layer.gate ? gate_ : up_, row, {layer.down.weight.get()}, first, first + width);
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
    prepare(rows, at, readers, 0, rows.width);
}

// Of some columns, whole groups of them
void Pass::prepare(Rows& rows, int at, std::initializer_list<const Matrix*> readers, int begin, int end) {
    bool ints = false, bfloats = false;
    for (const Matrix* m : readers) {
        if (!m) continue;
        ints |= m->format == Format::INTS;
        bfloats |= m->format == Format::BF16 && k_.dots_bfloats;
    }
    const float* from = rows.row(at) + begin;
    if (ints) k_.round_to_ints(from, end - begin, rows.ints(at, begin));
    if (bfloats)
        k_.round_to_bfloats(from, end - begin,
                            rows.bfloats.as<std::uint16_t>() + std::size_t(at) * std::size_t(rows.width) + begin);
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
