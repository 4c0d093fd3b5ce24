// What Python sees: matrices, sequences and a model, in NumPy arrays.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "pack.h"
#include "specification.h"

namespace nb = nanobind;

namespace lucid {
namespace {

using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Order = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatRows = nb::ndarray<nb::numpy, float, nb::ndim<2>>;
using MatrixRef = std::shared_ptr<const Matrix>;

MatrixRef matrix(Arena& arena, const std::string& format, Bytes data, int rows, int columns,
                 std::optional<Order> order) {
    const Source* from = source(format);
    require(from, "unknown format");
    require(rows > 0 && columns > 0 && columns % from->columns == 0, "rows are no whole blocks");
    require(data.size() == std::size_t(columns) / from->columns * from->bytes * std::size_t(rows),
            "another number of bytes than the shape needs");
    if (order) {
        require(order->size() == std::size_t(rows), "one place for each row");
        for (int row = 0; row < rows; ++row)
            require(order->data()[row] >= 0 && order->data()[row] < rows, "a row that is not there");
    }
    nb::gil_scoped_release unlocked;
    return std::make_shared<const Matrix>(
        pack(arena, *from, data.data(), rows, columns, order ? order->data() : nullptr));
}

FloatRows rows_of(std::size_t rows, int width, float*& data) {
    data = new float[rows * std::size_t(width)];
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    return FloatRows(data, {rows, std::size_t(width)}, owner);
}

using Ids = std::vector<std::vector<int>>;

struct Reading {
    std::vector<Token> tokens;
    std::vector<int> wanted;
};

// The new tokens of each row, and which of them somebody wants: all, or each row's last
Reading reading(const Model& m, const Ids& ids, const Ids& segments, bool every,
                const std::vector<int>& starts) {
    Reading found;
    for (std::size_t row = 0; row < ids.size(); ++row) {
        require(!ids[row].empty(), "a row without tokens");
        for (std::size_t at = 0; at < ids[row].size(); ++at) {
            const int id = ids[row][at];
            require(id >= 0 && id < m.vocab(), "a token that is not in the vocabulary");
            const int segment = segments.empty() ? 0 : segments[row][at];
            found.tokens.push_back({int(row), starts[row] + int(at), id, segment});
            if (every || at + 1 == ids[row].size()) found.wanted.push_back(int(found.tokens.size()) - 1);
        }
    }
    return found;
}

// The watch as Python fills it: arrays by site, kept alive while it is used
struct PyWatch {
    Watch watch;
    std::vector<nb::object> kept;
    std::exception_ptr error;  // of an edit: it is told when the call is over

    PyWatch(int layers, int span) {
        watch.targets.resize(std::size_t(WHOLE_SITES + layers * LAYER_SITES));
        watch.span = (span + 15) / 16 * 16;
    }

    Watch::Target& target(int site) {
        require(site >= 0 && site < int(watch.targets.size()), "a site that is not there");
        return watch.targets[std::size_t(site)];
    }

    void keep(int site, nb::ndarray<float, nb::c_contig, nb::device::cpu> into) {
        target(site).to = into.data();
        kept.push_back(nb::cast(into));
    }

    void edit(const std::vector<int>& sites, nb::callable by) {
        for (int site : sites) target(site).edited = true;
        // a cycle through here is one that Python's collector does not see: `release` breaks it
        watch.edit = [this, by](int site, int row, float* values, int width) {
            nb::gil_scoped_acquire locked;
            std::size_t shape[1] = {std::size_t(width)};
            try {
                nb::ndarray<nb::numpy, float, nb::ndim<1>> in_place(values, 1, shape, nb::handle());
                by(site, row, nb::cast(in_place, nb::rv_policy::reference));
            } catch (...) {
                if (!error) error = std::current_exception();
            }
        };
    }

    // Let go of everything Python's
    void release() {
        watch.edit = nullptr;
        watch.targets.assign(watch.targets.size(), {});
        kept.clear();
    }
};

const Watch* watch_of(PyWatch* from) {
    return from ? &from->watch : nullptr;
}

void tell_errors(PyWatch* of) {
    if (of && of->error) std::rethrow_exception(std::exchange(of->error, nullptr));
}

nb::object step(Model& m, const std::vector<std::shared_ptr<Sequence>>& sequences, const Ids& ids, bool every,
                PyWatch* watch) {
    require(m.decoder && m.head, "no decoder that says words");
    require(sequences.size() == ids.size() && !ids.empty(), "one sequence for each row");
    std::vector<int> starts;
    std::vector<Sequence*> pointers;
    for (const auto& sequence : sequences) {
        require(std::find(pointers.begin(), pointers.end(), sequence.get()) == pointers.end(), "a sequence twice");
        pointers.push_back(sequence.get());
        starts.push_back(sequence->length);
    }
    Reading read = reading(m, ids, {}, every, starts);
    float* data;
    FloatRows logits = rows_of(read.wanted.size(), m.vocab(), data);
    {
        nb::gil_scoped_release unlocked;
        m.step(pointers, read.tokens, read.wanted, data, watch_of(watch));
    }
    tell_errors(watch);
    return nb::cast(logits);
}

// (last vectors or None, logits or None) of every token
nb::object encode(Model& m, const Ids& ids, const Ids& segments, bool vectors, bool words, PyWatch* watch) {
    require(bool(m.encoder) && (!words || m.head), "no encoder");
    require(segments.empty() || segments.size() == ids.size(), "segments of other rows");
    for (std::size_t row = 0; row < segments.size(); ++row)
        require(segments[row].size() == ids[row].size(), "segments of other rows");
    Reading read = reading(m, ids, segments, true, std::vector<int>(ids.size(), 0));
    float *of_vectors = nullptr, *of_words = nullptr;
    nb::object found[2] = {nb::none(), nb::none()};
    if (vectors) found[0] = nb::cast(rows_of(read.tokens.size(), m.dim(), of_vectors));
    if (words) found[1] = nb::cast(rows_of(read.tokens.size(), m.vocab(), of_words));
    {
        nb::gil_scoped_release unlocked;
        m.encode(read.tokens, int(ids.size()), read.wanted, of_vectors, of_words, watch_of(watch));
    }
    tell_errors(watch);
    return nb::make_tuple(found[0], found[1]);
}

using Vectors = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void require_stack(const Model& m, bool encodes) {
    require(bool(encodes ? m.encoder : m.decoder), "no such stack");
}

nb::object embed_again(Model& m, bool encodes, const Ids& ids, const Ids& segments, PyWatch* watch) {
    require_stack(m, encodes);
    Reading read = reading(m, ids, segments, true, std::vector<int>(ids.size(), 0));
    float* data;
    FloatRows found = rows_of(read.tokens.size(), m.dim(), data);
    nb::gil_scoped_release unlocked;
    m.embed_again(encodes, read.tokens, data, watch_of(watch));
    nb::gil_scoped_acquire locked;
    tell_errors(watch);
    return nb::cast(found);
}

nb::object layer_again(Model& m, bool encodes, int layer, Vectors inputs, int sequences, std::optional<Vectors> memory,
                       PyWatch* watch) {
    require_stack(m, encodes);
    require(layer >= 0 && layer < int((encodes ? m.encoder : m.decoder)->layers.size()), "no such layer");
    require(int(inputs.shape(1)) == m.dim() && sequences > 0 && inputs.shape(0) % std::size_t(sequences) == 0,
            "vectors of another shape");
    require(!memory || (m.decoder && m.decoder->layers[0].cross.query && int(memory->shape(1)) == m.dim() &&
                        memory->shape(0) % std::size_t(sequences) == 0), "a memory of another shape");
    const int length = int(inputs.shape(0)) / sequences;
    std::vector<Token> tokens;
    for (int row = 0; row < sequences; ++row)
        for (int at = 0; at < length; ++at) tokens.push_back({row, at, 0, 0});
    float* data;
    FloatRows found = rows_of(inputs.shape(0), m.dim(), data);
    std::copy(inputs.data(), inputs.data() + inputs.size(), data);
    nb::gil_scoped_release unlocked;
    m.layer_again(encodes, layer, tokens, sequences, memory ? memory->data() : nullptr,
                  memory ? int(memory->shape(0)) / sequences : 0, data, watch_of(watch));
    nb::gil_scoped_acquire locked;
    tell_errors(watch);
    return nb::cast(found);
}

nb::object norm_again(Model& m, bool encodes, Vectors inputs, PyWatch* watch) {
    require_stack(m, encodes);
    require(bool((encodes ? m.encoder : m.decoder)->final_norm) && int(inputs.shape(1)) == m.dim(),
            "vectors of another shape");
    float* data;
    FloatRows found = rows_of(inputs.shape(0), m.dim(), data);
    std::copy(inputs.data(), inputs.data() + inputs.size(), data);
    nb::gil_scoped_release unlocked;
    m.norm_again(encodes, int(inputs.shape(0)), data, watch_of(watch));
    nb::gil_scoped_acquire locked;
    tell_errors(watch);
    return nb::cast(found);
}

nb::object head_again(Model& m, Vectors inputs, PyWatch* watch) {
    require(bool(m.head) && int(inputs.shape(1)) == m.dim() && inputs.shape(0) > 0, "vectors of another shape");
    float* data;
    FloatRows found = rows_of(inputs.shape(0), m.vocab(), data);
    nb::gil_scoped_release unlocked;
    m.head_again(int(inputs.shape(0)), inputs.data(), data, watch_of(watch));
    nb::gil_scoped_acquire locked;
    tell_errors(watch);
    return nb::cast(found);
}

void remember(Model& m, Sequence& sequence, nb::ndarray<const float, nb::ndim<2>, nb::c_contig> vectors) {
    require(m.decoder && m.decoder->layers[0].cross.query, "no cross-attention");
    require(int(vectors.shape(1)) == m.dim() && vectors.shape(0) > 0, "vectors of another width");
    nb::gil_scoped_release unlocked;
    m.remember(sequence, vectors.data(), int(vectors.shape(0)));
}

// Cross-attention's keys and values of one layer, each (heads, length, head_dim)
nb::object memory(Model& m, const Sequence& sequence, int layer) {
    require(m.decoder && m.decoder->layers[0].cross.query && layer >= 0 && layer < int(m.decoder->layers.size()),
            "no cross-attention");
    const Attention& c = m.decoder->layers[std::size_t(layer)].cross;
    float *keys, *values;
    const std::size_t rows = std::size_t(c.kv_heads) * std::size_t(sequence.memory_length);
    FloatRows both[2] = {rows_of(rows, c.head_dim, keys), rows_of(rows, c.head_dim, values)};
    m.read_memory(sequence, layer, keys, values);
    return nb::make_tuple(both[0], both[1]);
}

}  // namespace
}  // namespace lucid

NB_MODULE(_native, m) {
    using namespace lucid;
    nb::class_<Matrix>(m, "Matrix")
        .def_prop_ro("nbytes", &Matrix::bytes)
        .def("floats", [](const Matrix& self) {
            float* data;
            FloatRows found = rows_of(std::size_t(self.rows), self.columns, data);
            for (int row = 0; row < self.rows; ++row)
                unpack_row(self, row, data + std::size_t(row) * std::size_t(self.columns));
            return found;
        });
    nb::class_<Arena>(m, "Arena").def(nb::init<int>());
    nb::class_<Sequence>(m, "Sequence")
        .def(nb::init<>())
        .def_ro("length", &Sequence::length)
        .def("fork", [](const Sequence& self) { return std::make_shared<Sequence>(self); })
        .def("truncate", &Sequence::truncate);
    nb::class_<Model>(m, "Model")
        .def_prop_ro("instructions", [](const Model& self) { return self.kernels().name; })
        .def_prop_ro("rounds_to_bfloat16", [](const Model& self) { return self.kernels().dots_bfloats; })
        .def_prop_ro("threads", &Model::threads)
        .def("step", &step, nb::arg(), nb::arg(), nb::arg(), nb::arg("watch").none())
        .def("encode", &encode, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg("watch").none())
        .def("remember", &remember)
        .def("memory", &memory)
        .def("embed_again", &embed_again, nb::arg(), nb::arg(), nb::arg(), nb::arg("watch").none())
        .def("layer_again", &layer_again, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg("memory").none(),
             nb::arg("watch").none())
        .def("norm_again", &norm_again, nb::arg(), nb::arg(), nb::arg("watch").none())
        .def("head_again", &head_again, nb::arg(), nb::arg("watch").none());
    nb::class_<PyWatch>(m, "Watch")
        .def(nb::init<int, int>())
        .def_prop_ro("span", [](const PyWatch& self) { return self.watch.span; })
        .def("keep", &PyWatch::keep)
        .def("edit", &PyWatch::edit)
        .def("release", &PyWatch::release);
    m.def("matrix", &matrix, nb::arg("arena"), nb::arg("format"), nb::arg("data"), nb::arg("rows"), nb::arg("columns"),
          nb::arg("order").none());
    m.def("model", &model);
    m.def("layer_sites", [] {
        auto names = layer_site_names();
        return std::vector<std::string>(names.begin(), names.end());
    });
    m.def("whole_sites", [] {
        auto names = whole_site_names();
        return std::vector<std::string>(names.begin(), names.end());
    });
    m.def("instructions", [] {
        std::vector<std::string> names;
        for (const Kernels* one : available()) names.push_back(one->name);
        return names;
    });
}
