// The check of the processor's kernels: each computes small products, or an attention,
// and the results are compared with the same in double precision, from the very values
// that the quantized weights stand for.
//
// Only ggml-base and the registry of backends are used, so that it checks whichever
// variant of the CPU's backend is registered.
#include "common_shim.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// Sizes of what is computed: whole blocks of every type, and of every layout that
// weights are packed into.
constexpr int64_t columns = 512;  // the length of the products' sums
constexpr int64_t outputs = 96;   // of a product
constexpr int64_t experts = 3;    // that share the outputs in a mixture of experts
constexpr int64_t used    = 2;    // experts of a row
constexpr int64_t head    = 64;   // the length of an attention head
constexpr int64_t heads   = 4;
constexpr int64_t kv_heads = 2;
constexpr int64_t cells    = 512;

// Rows of activations: one sequence's token; a tile that is not full; a token of each of
// eight sequences; a prompt.
constexpr int64_t batches[] = {1, 5, 8, 64};

enum class operation { product, experts, store, attention };

struct kernel {
    std::string                name;
    ggml_type                  type;
    operation                  op;
    ggml_backend_buffer_type_t buft;  // of the weights
};

// matrix is rows of random values of a type, and what they stand for exactly.
struct matrix {
    ggml_type            type = GGML_TYPE_COUNT;
    std::vector<uint8_t> bytes;
    std::vector<float>   values;
};

std::vector<float> random_values(uint32_t seed, int64_t n) {
    std::mt19937                    source(seed);
    std::normal_distribution<float> normal;
    std::vector<float>              values(n);
    for (float & v : values) {
        v = normal(source);
    }
    return values;
}

void dequantize(ggml_type type, const void * bytes, float * values, int64_t n) {
    if (type == GGML_TYPE_F32) {
        memcpy(values, bytes, n * sizeof(float));
    } else {
        ggml_get_type_traits(type)->to_float(bytes, values, n);
    }
}

// has_grid says whether a type's numbers are places in a grid of values. ggml takes a
// second to prepare for rounding to such a grid, for each type, and needs to know how much
// each weight matters for some.
bool has_grid(ggml_type type) {
    switch (type) {
        case GGML_TYPE_IQ1_S:
        case GGML_TYPE_IQ1_M:
        case GGML_TYPE_IQ2_XXS:
        case GGML_TYPE_IQ2_XS:
        case GGML_TYPE_IQ2_S:
        case GGML_TYPE_IQ3_XXS:
        case GGML_TYPE_IQ3_S: return true;
        default: return false;
    }
}

// random_blocks fills a matrix with random bits, which all mean something in a type with a
// grid, and throws the block away when its scale is not one that weights have.
void random_blocks(matrix & m, uint32_t seed) {
    std::mt19937  source(seed);
    const int64_t elements = ggml_blck_size(m.type);
    const size_t  bytes    = ggml_type_size(m.type);
    for (size_t i = 0; i < m.bytes.size() / bytes; i++) {
        float * values  = &m.values[i * elements];
        double  squares = 0;
        do {
            std::generate_n(&m.bytes[i * bytes], bytes, [&] { return (uint8_t) source(); });
            dequantize(m.type, &m.bytes[i * bytes], values, elements);
            squares = 0;
            for (int64_t j = 0; j < elements; j++) {
                squares += (double) values[j] * values[j];
            }
        } while (!(squares > 0.25 * elements && squares < 4 * elements));
    }
}

matrix random_matrix(ggml_type type, uint32_t seed, int64_t rows, int64_t length) {
    matrix m;
    m.type = type;
    m.bytes.resize(rows * ggml_row_size(type, length));
    m.values = random_values(seed, rows * length);
    if (has_grid(type)) {
        random_blocks(m, seed);
        return m;
    }

    ggml_quantize_chunk(type, m.values.data(), m.bytes.data(), 0, rows, length, nullptr);
    dequantize(type, m.bytes.data(), m.values.data(), rows * length);
    return m;
}

// tensors are described in ctx, and then allocated together.
struct tensors {
    ggml_context_ptr        ctx;
    ggml_backend_buffer_ptr buffer;

    tensors() : ctx(ggml_init({ggml_tensor_overhead() * 16 + ggml_graph_overhead(), nullptr, true})) {
        if (!ctx) {
            throw std::bad_alloc();
        }
    }
    void allocate(ggml_backend_buffer_type_t buft) {
        buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), buft));
        if (!buffer) {
            throw std::bad_alloc();
        }
        ggml_backend_buffer_clear(buffer.get(), 0);
    }
};

// multiply describes the product of weights of a type with n rows of activations.
struct multiply {
    ggml_tensor * weights;
    ggml_tensor * rows;
    ggml_tensor * ids = nullptr;  // the experts of each row
    ggml_tensor * result;

    multiply(ggml_context * fixed, ggml_context * rest, ggml_type type, operation op, int64_t n) {
        if (op == operation::product) {
            weights = ggml_new_tensor_2d(fixed, type, columns, outputs);
            rows    = ggml_new_tensor_2d(rest, GGML_TYPE_F32, columns, n);
            result  = ggml_mul_mat(rest, weights, rows);
        } else {
            weights = ggml_new_tensor_3d(fixed, type, columns, outputs / experts, experts);
            rows    = ggml_new_tensor_3d(rest, GGML_TYPE_F32, columns, 1, n);
            ids     = ggml_new_tensor_2d(rest, GGML_TYPE_I32, used, n);
            result  = ggml_mul_mat_id(rest, weights, rows, ids);
        }
    }
};

// takes says whether the device multiplies weights of a type that lie in such a buffer.
bool takes(ggml_backend_dev_t device, ggml_backend_buffer_type_t buft, ggml_type type, operation op) {
    tensors        fixed, rest;
    const multiply m(fixed.ctx.get(), rest.ctx.get(), type, op, 512);
    const ggml_backend_buffer_ptr none(ggml_backend_buft_alloc_buffer(buft, 0));
    m.weights->buffer = none.get();
    const bool yes    = ggml_backend_dev_supports_op(device, m.result);
    m.weights->buffer = nullptr;
    return yes;
}

}  // namespace

struct serve_check {
    ggml_backend_ptr           backend;
    ggml_backend_buffer_type_t plain = nullptr;
    std::vector<kernel>        list;
    matrix                     last;  // the weights that were used last: some types are slow to quantize
};

namespace {

template <typename F> F proc_address(ggml_backend_dev_t device, const char * name) {
    return (F) ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name);
}

// buffer_types are the kinds of memory that weights can lie in: as they are in the file,
// and packed anew for some kernels.
std::vector<ggml_backend_buffer_type_t> buffer_types(ggml_backend_dev_t device) {
    std::vector<ggml_backend_buffer_type_t> types = {ggml_backend_dev_buffer_type(device)};
    const auto extra = proc_address<ggml_backend_dev_get_extra_bufts_t>(device, "ggml_backend_dev_get_extra_bufts");
    for (auto * buft = extra == nullptr ? nullptr : extra(device); buft != nullptr && *buft != nullptr; buft++) {
        types.push_back(*buft);
    }
    return types;
}

// holds_weights says whether a model's weights can have a type: not so for those that
// only activations are rounded to.
bool holds_weights(ggml_type type) {
    return ggml_blck_size(type) > 0 && (type == GGML_TYPE_F32 || ggml_get_type_traits(type)->to_float != nullptr);
}

std::vector<kernel> list_kernels(ggml_backend_dev_t device) {
    std::vector<kernel> list;
    const auto bufts = buffer_types(device);
    for (int t = 0; t < GGML_TYPE_COUNT; t++) {
        const ggml_type type = (ggml_type) t;
        if (!holds_weights(type)) {
            continue;
        }
        for (const auto buft : bufts) {
            const std::string name  = ggml_type_name(type);
            const std::string place = buft == bufts[0] ? "" : std::string(" in ") + ggml_backend_buft_name(buft);
            if (takes(device, buft, type, operation::product)) {
                list.push_back({name + place, type, operation::product, buft});
            }
            if (takes(device, buft, type, operation::experts)) {
                list.push_back({name + " experts" + place, type, operation::experts, buft});
            }
        }
    }
    for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
        list.push_back({std::string(ggml_type_name(type)) + " KV cells", type, operation::store, bufts[0]});
        list.push_back({std::string(ggml_type_name(type)) + " attention", type, operation::attention, bufts[0]});
    }
    return list;
}

void compute(serve_check * s, ggml_context * ctx, ggml_tensor * result) {
    ggml_cgraph * graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, result);
    if (ggml_backend_graph_compute(s->backend.get(), graph) != GGML_STATUS_SUCCESS) {
        throw std::runtime_error("the graph could not be computed");
    }
}

// difference compares results row by row: the mean square of the differences over that
// of what they should be, of the worst row. One wrong value among a hundred shows.
double difference(const std::vector<float> & got, const std::vector<double> & want, int64_t length) {
    double worst = 0;
    for (size_t from = 0; from < want.size(); from += length) {
        double errors = 0, squares = 0;
        for (size_t i = from; i < from + length; i++) {
            errors += (got[i] - want[i]) * (got[i] - want[i]);
            squares += want[i] * want[i];
        }
        const double d = errors / squares;
        if (!std::isfinite(d)) {
            return INFINITY;
        }
        worst = std::max(worst, d);
    }
    return worst;
}

std::vector<float> read(const ggml_tensor * t) {
    std::vector<float> values(ggml_nelements(t));
    ggml_backend_tensor_get(t, values.data(), 0, ggml_nbytes(t));
    return values;
}

double dot(const float * a, const float * b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double) a[i] * b[i];
    }
    return sum;
}

// exchange puts two rows of a matrix in each other's place.
void exchange(std::vector<uint8_t> & bytes, int64_t a, int64_t b, size_t row_size) {
    std::swap_ranges(bytes.begin() + a * row_size, bytes.begin() + (a + 1) * row_size, bytes.begin() + b * row_size);
}

// check_product compares the product of weights with n rows of activations.
double check_product(serve_check * s, const kernel & k, int64_t n, bool spoil) {
    if (s->last.type != k.type) {
        s->last = random_matrix(k.type, 1, outputs, columns);
    }
    tensors        fixed, rest;
    const multiply m(fixed.ctx.get(), rest.ctx.get(), k.type, k.op, n);
    fixed.allocate(k.buft);
    rest.allocate(s->plain);

    std::vector<uint8_t> bytes = s->last.bytes;
    if (spoil) {
        exchange(bytes, 10, 11, ggml_row_size(k.type, columns));
    }
    const std::vector<float> rows = random_values(2, columns * n);
    ggml_backend_tensor_set(m.weights, bytes.data(), 0, bytes.size());
    ggml_backend_tensor_set(m.rows, rows.data(), 0, rows.size() * sizeof(float));
    std::vector<int32_t> ids;
    if (m.ids != nullptr) {
        for (int32_t i = 0; i < n; i++) {
            ids.push_back(i % experts);
            ids.push_back((i + 1 + i / experts % (experts - 1)) % experts);
        }
        ggml_backend_tensor_set(m.ids, ids.data(), 0, ids.size() * sizeof(int32_t));
    }
    compute(s, rest.ctx.get(), m.result);

    const auto value = [&](int64_t output, int64_t row) {
        return dot(&s->last.values[output * columns], &rows[row * columns], columns);
    };
    std::vector<double> want;
    const int64_t       length = m.ids == nullptr ? outputs : outputs / experts;
    for (int64_t i = 0; i < (m.ids == nullptr ? n : n * used); i++) {
        const int64_t first = m.ids == nullptr ? 0 : ids[i] * length;
        const int64_t row   = m.ids == nullptr ? i : i / used;
        for (int64_t o = 0; o < length; o++) {
            want.push_back(value(first + o, row));
        }
    }
    return difference(read(m.result), want, length);
}

// check_store compares what is kept of n rows of keys or values.
double check_store(serve_check * s, const kernel & k, int64_t n, bool spoil) {
    constexpr int64_t length = head * kv_heads;
    tensors           t;
    ggml_tensor * kept   = ggml_new_tensor_2d(t.ctx.get(), k.type, length, cells);
    ggml_tensor * rows   = ggml_new_tensor_2d(t.ctx.get(), GGML_TYPE_F32, length, n);
    ggml_tensor * places = ggml_new_tensor_1d(t.ctx.get(), GGML_TYPE_I64, n);
    ggml_tensor * result = ggml_set_rows(t.ctx.get(), kept, rows, places);
    t.allocate(s->plain);

    const std::vector<float> values = random_values(3, length * n);
    std::vector<int64_t>     at(n);
    for (int64_t i = 0; i < n; i++) {
        at[i] = cells - 1 - 3 * i;
    }
    ggml_backend_tensor_set(rows, values.data(), 0, ggml_nbytes(rows));
    ggml_backend_tensor_set(places, at.data(), 0, ggml_nbytes(places));
    compute(s, t.ctx.get(), result);

    // The same values, rounded by ggml's reference and not by the kernel.
    const matrix reference = random_matrix(k.type, 3, n, length);
    std::vector<double>  want(reference.values.begin(), reference.values.end());
    std::vector<float>   got(length * n);
    std::vector<uint8_t> row(ggml_row_size(k.type, length));
    for (int64_t i = 0; i < n; i++) {
        ggml_backend_tensor_get(kept, row.data(), (spoil ? at[i] - 1 : at[i]) * row.size(), row.size());
        dequantize(k.type, row.data(), &got[i * length], length);
    }
    return difference(got, want, length);
}

// attend computes the attention of a row of a head in double precision. The row sees the
// first cells.
void attend(const float * query, const matrix & keys, const matrix & values, int64_t kv_head, int64_t seen,
            double * out) {
    const double        scale = 1 / std::sqrt((double) head);
    std::vector<double> weights(seen);
    for (int64_t c = 0; c < seen; c++) {
        weights[c] = scale * dot(query, &keys.values[(c * kv_heads + kv_head) * head], head);
    }
    const double greatest = *std::max_element(weights.begin(), weights.end());
    double       sum      = 0;
    for (double & w : weights) {
        sum += w = std::exp(w - greatest);
    }
    for (int64_t c = 0; c < seen; c++) {
        const float * value = &values.values[(c * kv_heads + kv_head) * head];
        for (int64_t i = 0; i < head; i++) {
            out[i] += weights[c] / sum * value[i];
        }
    }
}

// check_attention compares the attention of the last n tokens to cells of a type.
double check_attention(serve_check * s, const kernel & k, int64_t n, bool spoil) {
    const matrix keys   = random_matrix(k.type, 4, cells, head * kv_heads);
    const matrix values = random_matrix(k.type, 5, cells, head * kv_heads);
    tensors       t;
    ggml_tensor * q = ggml_new_tensor_3d(t.ctx.get(), GGML_TYPE_F32, head, n, heads);
    ggml_tensor * a = ggml_new_tensor_3d(t.ctx.get(), k.type, head, kv_heads, cells);
    ggml_tensor * v = ggml_new_tensor_3d(t.ctx.get(), k.type, head, kv_heads, cells);
    ggml_tensor * mask = ggml_new_tensor_2d(t.ctx.get(), GGML_TYPE_F16, cells, n);
    ggml_tensor * result = ggml_flash_attn_ext(t.ctx.get(), q, ggml_permute(t.ctx.get(), a, 0, 2, 1, 3),
        ggml_permute(t.ctx.get(), v, 0, 2, 1, 3), mask, 1 / std::sqrt((float) head), 0, 0);
    t.allocate(s->plain);

    const std::vector<float> queries = random_values(6, head * n * heads);
    std::vector<ggml_fp16_t> sees(cells * n, ggml_fp32_to_fp16(0));
    for (int64_t i = 0; i < n; i++) {
        const auto row = sees.begin() + i * cells;
        std::fill(row + cells - n + i + 1, row + cells, ggml_fp32_to_fp16(-INFINITY));
    }
    std::vector<uint8_t> bytes = values.bytes;
    if (spoil) {
        std::rotate(bytes.begin(), bytes.begin() + bytes.size() / 2, bytes.end());
    }
    ggml_backend_tensor_set(q, queries.data(), 0, ggml_nbytes(q));
    ggml_backend_tensor_set(a, keys.bytes.data(), 0, ggml_nbytes(a));
    ggml_backend_tensor_set(v, bytes.data(), 0, ggml_nbytes(v));
    ggml_backend_tensor_set(mask, sees.data(), 0, ggml_nbytes(mask));
    compute(s, t.ctx.get(), result);

    std::vector<double> want(head * heads * n);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t h = 0; h < heads; h++) {
            const float * query = &queries[(h * n + i) * head];
            attend(query, keys, values, h * kv_heads / heads, cells - n + i + 1, &want[(i * heads + h) * head]);
        }
    }
    return difference(read(result), want, head * heads);
}

// tolerance is for what a kernel may round: of F32, only sums; of F16 and BF16 the
// activations, too, and sums of their products where a processor has arithmetic for
// those; with all other weights activations are rounded to eight bits, which makes a
// difference of 0.5e-4 to 2.5e-4. One wrong value of a row makes 1e-2. Cells may differ
// where a value lies in the middle between two steps.
double tolerance(const kernel & k) {
    if (k.op == operation::store) {
        return 1e-3;
    }
    switch (k.type) {
        case GGML_TYPE_F32: return 1e-8;
        case GGML_TYPE_F16:
        case GGML_TYPE_BF16: return 1e-4;
        default: return 5e-4;
    }
}

double check(serve_check * s, const kernel & k, int64_t n, bool spoil) {
    switch (k.op) {
        case operation::store: return check_store(s, k, n, spoil);
        case operation::attention: return check_attention(s, k, n, spoil);
        default: return check_product(s, k, n, spoil);
    }
}

}  // namespace

serve_check * serve_check_new(int32_t threads, serve_error * err) {
    return guard(err, [&]() -> serve_check * {
        ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        if (device == nullptr) {
            throw std::runtime_error("the library was built without the CPU's backend");
        }
        auto s = std::make_unique<serve_check>();
        s->backend.reset(ggml_backend_dev_init(device, nullptr));
        if (!s->backend) {
            throw std::runtime_error("the CPU's backend does not start");
        }
        const auto set_threads = proc_address<ggml_backend_set_n_threads_t>(device, "ggml_backend_set_n_threads");
        if (set_threads != nullptr) {
            set_threads(s->backend.get(), threads);
        }
        s->plain = ggml_backend_dev_buffer_type(device);
        s->list  = list_kernels(device);
        return s.release();
    });
}

void serve_check_free(serve_check * s) { delete s; }

int32_t serve_check_count(const serve_check * s) noexcept { return (int32_t) s->list.size(); }

const char * serve_check_name(const serve_check * s, int32_t i) noexcept { return s->list[i].name.c_str(); }

void serve_check_run(serve_check * s, int32_t i, bool spoil, serve_kernel_check * out, serve_error * err) {
    guard(err, [&] {
        const kernel & k = s->list[i];
        *out = {0, tolerance(k), 0};
        for (const int64_t n : batches) {
            const double d = check(s, k, n, spoil);
            if (out->rows == 0 || d > out->difference) {
                out->difference = d;
                out->rows       = (int32_t) n;
            }
        }
    });
}
