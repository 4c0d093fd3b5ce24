#include "specification.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <algorithm>

namespace nb = nanobind;

namespace lucid {
namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

// A vector of `n` numbers, filled up with zeros to `width`
std::vector<float> vector(nb::handle from, std::size_t width) {
    auto found = nb::cast<Floats>(from);
    require(found.size() <= width, "a vector wider than its place");
    std::vector<float> all(width, 0.0f);
    std::copy(found.data(), found.data() + found.size(), all.begin());
    return all;
}

std::size_t filled(int n) {
    return std::size_t((n + GROUP - 1) / GROUP * GROUP);
}

// A table (rows, columns), each row filled up
std::vector<float> table(nb::handle from) {
    auto found = nb::cast<Floats>(from);
    require(found.ndim() == 2, "a table has two axes");
    std::size_t columns = found.shape(1), width = filled(int(columns));
    std::vector<float> all(found.shape(0) * width, 0.0f);
    for (std::size_t row = 0; row < found.shape(0); ++row)
        std::copy(found.data() + row * columns, found.data() + (row + 1) * columns, &all[row * width]);
    return all;
}

nb::object get(nb::dict from, const char* key) {
    return from.contains(key) ? nb::object(from[key]) : nb::none();
}

template <class T>
T get_as(nb::dict from, const char* key) {
    return nb::cast<T>(from[key]);
}

Linear linear(nb::object from, int rows, int columns) {
    Linear found;
    if (from.is_none()) return found;
    auto parts = nb::cast<nb::tuple>(from);
    found.weight = nb::cast<std::shared_ptr<Matrix>>(parts[0]);
    require(found.weight->rows == rows && found.weight->columns == columns, "a matrix of another shape");
    if (!parts[1].is_none()) found.bias = vector(parts[1], std::size_t(found.weight->tiles) * TILE);
    return found;
}

Norm norm(nb::object from, int n) {
    Norm found;
    if (from.is_none()) return found;
    auto spec = nb::cast<nb::dict>(from);
    found.centred = get_as<bool>(spec, "centred");
    found.eps = get_as<float>(spec, "eps");
    found.weight = vector(spec["weight"], filled(n));
    if (!get(spec, "bias").is_none()) found.bias = vector(spec["bias"], filled(n));
    return found;
}

AddNorm add_norm(nb::dict spec, int dim) {
    return {norm(get(spec, "input"), dim), norm(get(spec, "output"), dim), norm(get(spec, "residual"), dim)};
}

Activation activation(const std::string& name) {
    constexpr const char* NAMES[] = {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"};
    for (int at = 0; at < 6; ++at)
        if (name == NAMES[at]) return Activation(at);
    throw std::invalid_argument("unknown activation");
}

Attention attention(nb::object from, int dim) {
    Attention a;
    if (from.is_none()) return a;
    auto spec = nb::cast<nb::dict>(from);
    a.heads = get_as<int>(spec, "heads");
    a.kv_heads = get_as<int>(spec, "kv_heads");
    a.head_dim = get_as<int>(spec, "head_dim");
    require(a.heads > 0 && a.kv_heads > 0 && a.head_dim > 0 && a.heads % a.kv_heads == 0, "heads that cannot be");
    a.scale = get_as<float>(spec, "scale");
    a.window = get_as<int>(spec, "window");
    a.query = linear(spec["query"], a.heads * a.head_dim, dim);
    a.key = linear(spec["key"], a.kv_heads * a.head_dim, dim);
    a.value = linear(spec["value"], a.kv_heads * a.head_dim, dim);
    a.output = linear(spec["output"], dim, a.heads * a.head_dim);
    a.query_norm = norm(get(spec, "query_norm"), a.head_dim);
    a.key_norm = norm(get(spec, "key_norm"), a.head_dim);
    if (!get(spec, "frequencies").is_none()) {
        require(a.head_dim % 2 == 0, "rotation turns pairs");
        a.frequencies = vector(spec["frequencies"], std::size_t(a.head_dim / 2));
    }
    return a;
}

Stack stack(nb::dict spec, int dim) {
    Stack found;
    auto embedding = get_as<nb::dict>(spec, "embedding");
    found.embedding.scale = get_as<float>(embedding, "scale");
    if (!get(embedding, "positions").is_none()) found.embedding.positions = table(embedding["positions"]);
    if (!get(embedding, "segments").is_none()) found.embedding.segments = table(embedding["segments"]);
    found.embedding.norm = norm(get(embedding, "norm"), dim);
    for (nb::handle one : get_as<nb::list>(spec, "layers")) {
        auto from = nb::cast<nb::dict>(one);
        Layer layer;
        layer.attention = attention(from["attention"], dim);
        layer.cross = attention(get(from, "cross"), dim);
        layer.attention_norm = add_norm(get_as<nb::dict>(from, "attention_norm"), dim);
        if (layer.cross.query) layer.cross_norm = add_norm(get_as<nb::dict>(from, "cross_norm"), dim);
        layer.feedforward_norm = add_norm(get_as<nb::dict>(from, "feedforward_norm"), dim);
        int hidden = get_as<int>(from, "hidden");
        layer.gate = linear(get(from, "gate"), hidden, dim);
        layer.up = linear(from["up"], hidden, dim);
        layer.down = linear(from["down"], dim, hidden);
        layer.activation = activation(get_as<std::string>(from, "activation"));
        found.layers.push_back(std::move(layer));
    }
    require(!found.layers.empty(), "a stack without layers");
    found.final_norm = norm(get(spec, "final_norm"), dim);
    auto mask = get_as<std::string>(spec, "mask");
    found.mask = mask == "full" ? Mask::FULL : mask == "strict" ? Mask::STRICT : Mask::CAUSAL;
    if (!get(spec, "bias").is_none()) {
        auto bias = nb::cast<Floats>(spec["bias"]);  // (heads, 2 reach + 1)
        require(bias.ndim() == 2 && bias.shape(1) % 2 == 1 &&
                    int(bias.shape(0)) == found.layers[0].attention.heads, "a bias of another shape");
        found.reach = int(bias.shape(1) / 2);
        found.bias.assign(bias.data(), bias.data() + bias.size());
    }
    return found;
}

Head head(nb::dict spec, int dim, int vocab) {
    Head found;
    found.scale = get_as<float>(spec, "scale");
    found.transform = linear(get(spec, "transform"), dim, dim);
    if (found.transform) found.activation = activation(get_as<std::string>(spec, "activation"));
    found.norm = norm(get(spec, "norm"), dim);
    found.table = nb::cast<std::shared_ptr<Matrix>>(spec["table"]);
    require(found.table->rows == vocab && found.table->columns == dim, "a table of another shape");
    if (!get(spec, "bias").is_none()) found.bias = vector(spec["bias"], std::size_t(vocab));
    return found;
}

}  // namespace

std::shared_ptr<Model> model(nb::dict spec, int threads, const std::string& instructions) {
    Dimensions dimensions{get_as<int>(spec, "dim"), get_as<int>(spec, "vocab")};
    require(dimensions.dim > 0 && dimensions.vocab > 0 && threads > 0, "nothing there");
    const Kernels* chosen = nullptr;
    for (const Kernels* one : available())
        if (!chosen && (instructions.empty() || instructions == one->name)) chosen = one;
    require(chosen, "instructions that this processor does not have");
    auto found = std::make_shared<Model>(dimensions, *chosen, threads);
    found->table = nb::cast<std::shared_ptr<Matrix>>(spec["table"]);
    require(found->table->rows == dimensions.vocab && found->table->columns == dimensions.dim,
            "a table of another shape");
    if (!get(spec, "encoder").is_none()) found->encoder = stack(get_as<nb::dict>(spec, "encoder"), dimensions.dim);
    if (!get(spec, "decoder").is_none()) found->decoder = stack(get_as<nb::dict>(spec, "decoder"), dimensions.dim);
    if (!get(spec, "head").is_none())
        found->head = head(get_as<nb::dict>(spec, "head"), dimensions.dim, dimensions.vocab);
    found->finish();
    return found;
}

}  // namespace lucid
