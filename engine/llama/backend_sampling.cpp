#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "backend_sampling.h"

#include "ggml-alloc.h"
#include "ggml-cpp.h"
#include "ggml.h"
#include "llama-context.h"
#include "llama-cpp.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace {

// What llama.cpp calls samplers in a graph draw a row at a time: with 64 rows, each operation is 64 of one row, which
// leave a card idle. Here an operation is for all rows. llama.cpp's samplers have another use: where each sequence has
// one, it leaves the logits on the device. So each gets one that adds nothing to the graph and notes its rows. When the
// logits have been computed, eval draws from them by a graph of its own.

constexpr float far_logit = 1e38f;   // no logit is farther from 0; its distance to another one is finite, too
constexpr float no_bound  = -3e38f;  // below the distance of any logit to the best one
constexpr float deepest   = -64;     // where a search for a bound begins: a token this far below has no weight in a sum
constexpr int   halvings  = 24;      // of the search: to 4e-6

constexpr size_t chunk_bytes = 36 << 20;  // of the logits that are drawn from at the same time
constexpr size_t max_graphs  = 24;        // that are kept

// The parts of a graph that not all draws need.
constexpr unsigned with_biases = 1;
constexpr unsigned with_count  = 2;
constexpr unsigned with_mass   = 4;
constexpr unsigned with_all    = 7;

// The numbers of each draw, each of all draws after the one before.
enum column { col_above, col_inverse, col_at, col_low, col_count, col_no_count, col_mass, col_no_mass, n_columns };

// A graph that draws from `rows` rows.
struct draw_graph {
    ggml_context_ptr ctx;
    ggml_cgraph *    graph   = nullptr;
    ggml_tensor *    logits  = nullptr;  // of a context
    ggml_tensor *    ids     = nullptr;  // rows of these
    ggml_tensor *    numbers = nullptr;
    ggml_tensor *    entries = nullptr;  // of the chosen rows, to which biases are added
    ggml_tensor *    biases  = nullptr;
    ggml_tensor *    out     = nullptr;  // of each draw: block, place in it, weight, greatest logit
};

// A graph is for as many rows, entries and parts.
using draw_shape = std::tuple<int32_t, int32_t, unsigned>;

// builder builds the operations of a draw_graph. Columns are matrices of one number for each row.
class builder {
  public:
    builder(draw_graph & g, int32_t vocabulary, int32_t block, int32_t rows) :
        c(g.ctx.get()), g(g), v(vocabulary), block(block), m(rows) {}

    void build(int32_t outputs, int32_t entries, unsigned parts) {
        g.logits  = ggml_new_tensor_2d(c, GGML_TYPE_F32, v, outputs);
        g.ids     = input(ggml_new_tensor_1d(c, GGML_TYPE_I32, m));
        g.numbers = input(ggml_new_tensor_1d(c, GGML_TYPE_F32, (int64_t) m * n_columns));
        if (parts & with_biases) {
            g.entries = input(ggml_new_tensor_1d(c, GGML_TYPE_I32, entries));
            g.biases  = input(ggml_new_tensor_1d(c, GGML_TYPE_F32, entries));
        }

        ggml_tensor * logits = chosen();
        ggml_tensor * best   = greatest(logits);
        ggml_tensor * below  = ggml_sub(c, logits, best);  // the best have 0, all others less
        g.out                = drawn(weights(below, bound(below, parts)), best);
        ggml_set_output(g.out);

        g.graph = ggml_new_graph_custom(c, GGML_DEFAULT_GRAPH_SIZE, false);
        ggml_build_forward_expand(g.graph, g.out);
    }

  private:
    ggml_context * c;
    draw_graph &   g;
    int64_t        v;      // logits of a row
    int64_t        block;  // logits of a block
    int64_t        m;      // rows

    static ggml_tensor * input(ggml_tensor * t) {
        ggml_set_input(t);
        return t;
    }

    ggml_tensor * number(column i) {
        return ggml_view_2d(c, g.numbers, 1, m, sizeof(float), (size_t) i * m * sizeof(float));
    }

    ggml_tensor * as_column(ggml_tensor * t) { return ggml_reshape_2d(c, t, 1, m); }

    // more is 1 where a is greater than b, and 0 elsewhere.
    ggml_tensor * more(ggml_tensor * a, ggml_tensor * b) { return ggml_step(c, ggml_sub(c, a, b)); }

    ggml_tensor * sum(ggml_tensor * t) { return ggml_sum_rows(c, t); }

    // greater returns the greater one of two columns, bit by bit.
    ggml_tensor * greater(ggml_tensor * a, ggml_tensor * b) {
        ggml_tensor * first = more(a, b);
        return ggml_add(c, ggml_mul(c, a, first), ggml_mul(c, b, ggml_scale_bias(c, first, -1, 1)));
    }

    // chosen returns the rows that are drawn from, biased and finite.
    ggml_tensor * chosen() {
        ggml_tensor * t = ggml_get_rows(c, g.logits, g.ids);
        if (g.entries != nullptr) {
            ggml_tensor * all = ggml_reshape_2d(c, t, 1, v * m);
            ggml_tensor * now = ggml_get_rows(c, all, g.entries);
            ggml_tensor * set = ggml_add(c, now, ggml_reshape_2d(c, g.biases, 1, g.biases->ne[0]));
            t = ggml_reshape_2d(c, ggml_set_rows(c, all, set, g.entries), v, m);
        }
        return ggml_clamp_inplace(c, t, -far_logit, far_logit);
    }

    ggml_tensor * greatest(ggml_tensor * logits) {
        ggml_tensor * where = ggml_reshape_2d(c, ggml_argmax(c, logits), 1, m);
        return as_column(ggml_get_rows(c, ggml_reshape_3d(c, logits, 1, v, m), where));
    }

    // search returns the greatest bound with which more than `least` is left of the weights (nullptr: of 1 for each
    // token), as exactly as `halvings` says.
    ggml_tensor * search(ggml_tensor * below, ggml_tensor * weight, ggml_tensor * least) {
        ggml_tensor * low   = number(col_low);
        float         width = -deepest;
        for (int i = 0; i < halvings; i++) {
            width /= 2;
            ggml_tensor * left = more(below, ggml_scale_bias(c, low, 1, width));
            if (weight != nullptr) {
                left = ggml_mul(c, left, weight);
            }
            low = ggml_add(c, low, ggml_scale(c, more(sum(left), least), width));
        }
        return low;
    }

    // bound returns the column above which tokens are not left out, in the order of llama.cpp's samplers: what is left
    // by their number is the whole of which a part is to be left.
    ggml_tensor * bound(ggml_tensor * below, unsigned parts) {
        ggml_tensor * b = number(col_above);
        ggml_tensor * n = nullptr;
        if (parts & with_count) {
            n = ggml_add(c, search(below, nullptr, number(col_count)), number(col_no_count));
            b = greater(b, n);
        }
        if (parts & with_mass) {
            ggml_tensor * weight = ggml_exp(c, below);
            ggml_tensor * whole  = sum(n == nullptr ? weight : ggml_mul(c, weight, more(below, n)));
            ggml_tensor * least  = ggml_mul(c, whole, number(col_mass));
            b = greater(b, ggml_add(c, search(below, weight, least), number(col_no_mass)));
        }
        return b;
    }

    ggml_tensor * weights(ggml_tensor * below, ggml_tensor * bound) {
        ggml_tensor * left = more(below, bound);
        return ggml_mul(c, ggml_exp(c, ggml_mul(c, below, number(col_inverse))), left);
    }

    // first returns where each row's running sum first exceeds a column, at most the last place.
    ggml_tensor * first(ggml_tensor * beyond) {
        const float n = (float) beyond->ne[0];
        return ggml_clamp_inplace(c, ggml_scale_bias(c, sum(beyond), -1, n), 0, n - 1);
    }

    // drawn draws from weights: first a block, by the sums of blocks, and then a token in it. One running sum of all
    // would lose what is small.
    ggml_tensor * drawn(ggml_tensor * weights, ggml_tensor * best) {
        const int64_t n = (v + block - 1) / block;
        if (n * block != v) {
            weights = ggml_pad(c, weights, (int) (n * block - v), 0, 0, 0);
        }
        ggml_tensor * blocks = ggml_reshape_3d(c, weights, block, n, m);
        ggml_tensor * sums   = ggml_reshape_2d(c, sum(blocks), n, m);
        ggml_tensor * until  = ggml_cumsum(c, sums);
        ggml_tensor * all    = ggml_cont(c, ggml_view_2d(c, until, 1, m, until->nb[1], (n - 1) * sizeof(float)));
        ggml_tensor * target = ggml_mul(c, all, number(col_at));

        ggml_tensor * beyond = more(until, target);
        ggml_tensor * b      = first(beyond);
        ggml_tensor * before = sum(ggml_mul(c, sums, ggml_scale_bias(c, beyond, -1, 1)));
        ggml_tensor * found  = ggml_reshape_2d(c, ggml_get_rows(c, blocks, ggml_cast(c, b, GGML_TYPE_I32)), block, m);

        ggml_tensor * place  = first(more(ggml_cumsum(c, found), ggml_sub(c, target, before)));
        ggml_tensor * weight = as_column(
            ggml_get_rows(c, ggml_reshape_3d(c, found, 1, block, m), ggml_cast(c, place, GGML_TYPE_I32)));
        return ggml_concat(c, ggml_concat(c, b, place, 0), ggml_concat(c, weight, best, 0), 0);
    }
};

// block_of returns how many logits a block has: of a size that divides their number, if there is one.
int32_t block_of(int32_t vocabulary) {
    for (int32_t size = 512; size >= 64; size /= 2) {
        if (vocabulary % size == 0) {
            return size;
        }
    }
    return 256;
}

// padded returns a number of rows for which there is a graph: there are few.
int32_t padded(int32_t rows, int32_t most) {
    int32_t n = 1;
    while (n < rows) {
        n = n < 8 ? 2 * n : n + 8;
    }
    return std::max(rows, std::min(n, most));
}

int32_t power_above(int32_t n) {
    int32_t p = 16;
    while (p < n) {
        p *= 2;
    }
    return p;
}

unsigned parts_of(const backend_draw & d) {
    const bool biased = d.biases != nullptr && !d.biases->empty();
    return (biased ? with_biases : 0) | (d.count > 0 ? with_count : 0) | (d.mass > 0 ? with_mass : 0);
}

// A sequence's sampler: it knows the rows of the logits that are the sequence's in the graph that was built last.
struct noted_rows {
    std::vector<noted_rows *> * active = nullptr;  // those of the graph that is about to be computed
    std::vector<int32_t>        rows;
    std::deque<int32_t>         indices;  // batch entries whose logits are still to come
    ggml_tensor **              logits = nullptr;
};

noted_rows & noted(const llama_sampler * s) { return *(noted_rows *) s->ctx; }

llama_sampler_i noted_interface() {
    llama_sampler_i i = {};
    i.name  = [](const llama_sampler *) { return "noted"; };
    i.apply = [](llama_sampler *, llama_token_data_array *) {};
    i.free  = [](llama_sampler *) {};

    i.backend_init  = [](llama_sampler *, ggml_backend_buffer_type_t, uint32_t) { return true; };
    i.backend_reset = [](llama_sampler * s) { noted(s).rows.clear(); };
    i.backend_apply = [](llama_sampler * s, ggml_context *, ggml_cgraph *, llama_sampler_data * data) {
        // The row is a view of the logits with a row more.
        if (const ggml_tensor * view = data->logits; view->view_src != nullptr) {
            noted(s).rows.push_back((int32_t) (view->view_offs / view->view_src->nb[1]));
            *noted(s).logits = view->view_src->src[0];
        }
        data->logits = nullptr;  // or they are copied to the host
    };
    i.backend_set_input = [](llama_sampler * s) { noted(s).active->push_back(&noted(s)); };
    return i;
}

}  // namespace

struct backend_sampling::state {
    int32_t            vocabulary = 0;
    int32_t            block      = 0;
    int32_t            outputs    = 0;
    int32_t            most       = 0;  // rows of a graph
    ggml_backend_dev_t dev        = nullptr;
    llama_context *    context    = nullptr;

    ggml_gallocr_ptr                 memory;
    size_t                           bytes = 0;  // of it
    std::map<draw_shape, draw_graph> graphs;
    const void *                     drawn_from = nullptr;  // the logits that the graphs have

    llama_sampler_i                      interface = noted_interface();
    std::deque<noted_rows>               sequences;
    std::vector<llama_sampler_ptr>       chains;
    std::vector<noted_rows *>            active;
    ggml_tensor *                        logits = nullptr;  // of the graph that was built last

    std::vector<backend_draw> *          draws = nullptr;
    std::vector<std::vector<int32_t>>    drawn_at;  // by batch index: the draws from its row
    std::vector<bool>                    wanted;    // by batch index: whether its row is to be copied
    std::vector<int32_t>                 at;        // by batch index: its row in host
    int32_t                              copied = 0;
    float *                              host = nullptr;
    std::string                          error;

    // What is given to a graph.
    std::vector<int32_t> ids;
    std::vector<float>   numbers;
    std::vector<int32_t> entries;
    std::vector<float>   biases;
    std::vector<float>   result;

    draw_graph build(const draw_shape & shape) const {
        const auto [rows, n_entries, parts] = shape;
        const ggml_init_params params = {
            ggml_tensor_overhead() * GGML_DEFAULT_GRAPH_SIZE + ggml_graph_overhead(), nullptr, true};
        draw_graph g;
        g.ctx.reset(ggml_init(params));
        builder(g, vocabulary, block, rows).build(outputs, n_entries, parts);
        return g;
    }

    // reserve lays out the largest graph, and allocates what it takes. It reports false if the device cannot compute
    // it.
    bool reserve(bool allocate) {
        draw_graph g = build({most, power_above(most * (int32_t) backend_draw::max_biases), with_all});
        for (int i = 0; i < ggml_graph_n_nodes(g.graph); i++) {
            if (!ggml_backend_dev_supports_op(dev, ggml_graph_node(g.graph, i))) {
                return false;
            }
        }

        memory.reset(ggml_gallocr_new(ggml_backend_dev_buffer_type(dev)));
        g.logits->data = this;  // they are not the allocator's
        if (!allocate) {
            ggml_gallocr_reserve_n_size(memory.get(), g.graph, nullptr, nullptr, &bytes);
            return true;
        }
        if (!ggml_gallocr_reserve(memory.get(), g.graph)) {
            throw std::runtime_error("no memory to sample on " + std::string(ggml_backend_dev_name(dev)));
        }
        bytes = ggml_gallocr_get_buffer_size(memory.get(), 0);
        return true;
    }

    // graph returns the graph of a shape, over logits that lie where t does.
    draw_graph & graph(const draw_shape & shape, const ggml_tensor * t) {
        if (t->data != drawn_from || graphs.size() > max_graphs) {
            graphs.clear();
            drawn_from = t->data;
        }
        auto found = graphs.find(shape);
        if (found != graphs.end()) {
            return found->second;
        }

        draw_graph g     = build(shape);
        g.logits->data   = t->data;
        g.logits->buffer = t->buffer != nullptr ? t->buffer : t->view_src->buffer;
        if (!ggml_gallocr_alloc_graph(memory.get(), g.graph)) {
            throw std::runtime_error("no memory to sample on " + std::string(ggml_backend_dev_name(dev)));
        }
        if (const size_t now = ggml_gallocr_get_buffer_size(memory.get(), 0); now != bytes) {
            graphs.clear();  // they lie in memory that was freed
            bytes = now;
        }
        return graphs.emplace(shape, std::move(g)).first->second;
    }

    void add_number(size_t n, size_t i, const backend_draw & d) {
        const auto set = [&](column c, float value) { numbers[c * n + i] = value; };
        set(col_above, d.above);
        set(col_inverse, d.inverse);
        set(col_at, d.at);
        set(col_low, deepest);
        set(col_count, d.count > 0 ? (float) d.count - 0.5f : 1e30f);
        set(col_no_count, d.count > 0 ? 0 : no_bound);
        set(col_mass, d.mass > 0 ? d.mass : 1e30f);
        set(col_no_mass, d.mass > 0 ? 0 : no_bound);
    }

    // fill makes the input of draws from rows. What a graph has room for beyond them does the same as the first.
    void fill(const std::vector<std::pair<backend_draw *, int32_t>> & some, int32_t n, unsigned parts) {
        ids.assign(n, some[0].second);
        numbers.resize((size_t) n * n_columns);
        entries.clear();
        biases.clear();
        for (int32_t i = 0; i < n; i++) {
            const bool           extra = i >= (int32_t) some.size();
            const backend_draw & d     = *some[extra ? 0 : i].first;
            if (!extra) {
                ids[i] = some[i].second;
            }
            add_number(n, i, d);
            if ((parts & with_biases) && !extra) {
                for (const auto & b : *d.biases) {
                    entries.push_back(i * vocabulary + b.token);
                    biases.push_back(b.bias);
                }
            }
        }
        if (parts & with_biases) {
            const int32_t size = power_above((int32_t) entries.size());
            entries.resize(size, entries[0]);
            biases.resize(size, biases[0]);
        }
    }

    // draw draws from rows of t, at most as many as a graph can have, all by the same parts.
    void draw(ggml_backend_t backend, const ggml_tensor * t,
              const std::vector<std::pair<backend_draw *, int32_t>> & some, unsigned parts) {
        const int32_t n = padded((int32_t) some.size(), most);
        fill(some, n, parts);
        draw_graph & g = graph({n, (int32_t) entries.size(), parts}, t);

        const auto set = [&](ggml_tensor * to, const auto & from) {
            ggml_backend_tensor_set_async(backend, to, from.data(), 0, ggml_nbytes(to));
        };
        set(g.ids, ids);
        set(g.numbers, numbers);
        if (g.entries != nullptr) {
            set(g.entries, entries);
            set(g.biases, biases);
        }
        if (ggml_backend_graph_compute_async(backend, g.graph) != GGML_STATUS_SUCCESS) {
            throw std::runtime_error("sampling failed on " + std::string(ggml_backend_name(backend)));
        }
        result.resize((size_t) 4 * n);
        ggml_backend_tensor_get_async(backend, g.out, result.data(), 0, ggml_nbytes(g.out));
        ggml_backend_synchronize(backend);

        for (size_t i = 0; i < some.size(); i++) {
            some[i].first->token = read(&result[4 * i]);
        }
    }

    // read returns the token of a draw, or what is the matter with it.
    int32_t read(const float * r) const {
        const float weight = r[2];
        const float best   = r[3];
        if (!(std::fabs(best) < far_logit)) {
            return backend_draw::no_logit;
        }
        // A sum that was rounded may point to a token of no weight: the host then draws, by the same number.
        const int64_t token = (int64_t) r[0] * block + (int64_t) r[1];
        return weight > 0 && token < vocabulary ? (int32_t) token : backend_draw::on_host;
    }

    // copy begins to copy rows of t to the host.
    void copy(ggml_backend_t backend, const ggml_tensor * t, std::vector<std::pair<int32_t, int32_t>> & some) {
        if (some.empty()) {
            return;
        }
        const size_t row = sizeof(float) * vocabulary;
        host = context->get_logits();  // where llama.cpp would copy them to
        // Rows that follow each other are copied together.
        std::sort(some.begin(), some.end());
        for (size_t i = 0, k; i < some.size(); i = k) {
            for (k = i; k < some.size() && some[k].first == some[i].first + (int32_t) (k - i); k++) {
                at[some[k].second] = copied + (int32_t) (k - i);
            }
            float * to = host + (size_t) copied * vocabulary;
            ggml_backend_tensor_get_async(backend, t, to, (size_t) some[i].first * row, (k - i) * row);
            copied += (int32_t) (k - i);
        }
    }

    // rows_of returns the batch index of each row of the graph that was just computed.
    std::vector<std::pair<int32_t, int32_t>> rows_of(const ggml_tensor * t) {
        std::vector<std::pair<int32_t, int32_t>> found;
        for (noted_rows * s : active) {
            for (const int32_t row : s->rows) {
                if (s->indices.empty() || row < 0 || row >= t->ne[1]) {
                    throw std::runtime_error("llama.cpp computed logits that nobody asked for");
                }
                found.emplace_back(row, s->indices.front());
                s->indices.pop_front();
            }
        }
        active.clear();
        return found;
    }

    // evaluate draws from the logits that a graph has computed, and copies those that the host needs.
    void evaluate(const ggml_tensor * t) {
        const auto rows = rows_of(t);
        if (t->type != GGML_TYPE_F32 || !ggml_is_contiguous(t) || t->ne[0] != vocabulary || t->ne[1] > outputs) {
            throw std::runtime_error("llama.cpp computed logits of another shape");
        }
        ggml_backend_t backend =
            ggml_backend_sched_get_tensor_backend(context->get_sched(), const_cast<ggml_tensor *>(t));
        const bool     here    = ggml_backend_get_device(backend) == dev;

        std::map<unsigned, std::vector<std::pair<backend_draw *, int32_t>>> groups;
        std::vector<std::pair<int32_t, int32_t>>                            to_host;
        for (const auto & [row, index] : rows) {
            for (const int32_t d : drawn_at[index]) {
                backend_draw & one = (*draws)[d];
                one.token = backend_draw::on_host;
                if (here) {
                    groups[parts_of(one)].emplace_back(&one, row);
                }
            }
            if (wanted[index] || drawn_at[index].empty() || !here) {
                to_host.emplace_back(row, index);
            }
        }
        copy(backend, t, to_host);
        for (const auto & [parts, group] : groups) {
            for (size_t i = 0; i < group.size(); i += most) {
                const size_t last = std::min(group.size(), i + most);
                draw(backend, t, {group.begin() + (ptrdiff_t) i, group.begin() + (ptrdiff_t) last}, parts);
            }
        }

        // What could not be drawn is drawn from a copy.
        to_host.clear();
        for (const auto & [row, index] : rows) {
            const auto & of = drawn_at[index];
            const bool   lacks = std::any_of(of.begin(), of.end(), [this](int32_t d) {
                return (*draws)[d].token == backend_draw::on_host;
            });
            if (lacks && at[index] < 0) {
                to_host.emplace_back(row, index);
            }
        }
        copy(backend, t, to_host);
        ggml_backend_synchronize(backend);
    }
};

bool logits_on_gpu(const llama_model * model) {
    ggml_backend_dev_t dev = model->dev_output();
    if (dev == nullptr) {
        return false;
    }
    const auto type = ggml_backend_dev_type(dev);
    return type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
}

backend_sampling::backend_sampling(std::unique_ptr<state> s) : s(std::move(s)) {}
backend_sampling::~backend_sampling() = default;

std::unique_ptr<backend_sampling> backend_sampling::make(const llama_model * model, int32_t outputs, bool allocate) {
    auto s = std::make_unique<state>();
    s->dev = model->dev_output();
    if (s->dev == nullptr) {
        return nullptr;
    }
    s->vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    s->block      = block_of(s->vocabulary);
    s->outputs    = outputs;
    s->most       = (int32_t) (chunk_bytes / (sizeof(float) * s->vocabulary));
    s->most       = padded(std::max(1, std::min(s->most / 8 * 8, outputs)), INT32_MAX);
    if (!s->reserve(allocate)) {
        return nullptr;
    }
    return std::unique_ptr<backend_sampling>(new backend_sampling(std::move(s)));
}

void backend_sampling::enter(llama_context_params & params) {
    params.n_outputs_max_per_seq = 0;  // as many as there are
    params.cb_eval_user_data = s.get();
    params.cb_eval           = [](ggml_tensor * t, bool ask, void * user) {
        state & s = *(state *) user;
        if (ask) {
            return t == s.logits && !s.active.empty();
        }
        try {
            s.evaluate(t);
        } catch (const std::exception & e) {
            s.error = e.what();
        }
        return true;
    };
}

void backend_sampling::attach(llama_context * context) {
    s->context = context;
    s->draws   = &draws;
    for (uint32_t i = 0; i < llama_n_seq_max(context); i++) {
        noted_rows & n = s->sequences.emplace_back();
        n.active = &s->active;
        n.logits = &s->logits;
        llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
        s->chains.emplace_back(chain);
        llama_sampler_chain_add(chain, llama_sampler_init(&s->interface, &n));
        if (!llama_set_sampler(context, (llama_seq_id) i, chain)) {
            throw std::runtime_error("llama.cpp does not leave the logits of this model on its device");
        }
    }
}

void backend_sampling::begin(int32_t n, const int32_t * seq, const int8_t * output,
                             const std::vector<int32_t> & wanted) {
    for (auto & one : s->sequences) {
        one.indices.clear();
    }
    s->active.clear();
    s->error.clear();
    s->copied = 0;
    s->drawn_at.assign(n, {});
    s->wanted.assign(n, false);
    s->at.assign(n, -1);
    for (int32_t i = 0; i < n; i++) {
        if (output[i] != 0) {
            s->sequences.at(seq[i]).indices.push_back(i);
        }
    }
    for (size_t d = 0; d < draws.size(); d++) {
        draws[d].token = backend_draw::undrawn;
        if (draws[d].index >= 0 && draws[d].index < n) {
            s->drawn_at[draws[d].index].push_back((int32_t) d);
        }
    }
    for (const int32_t index : wanted) {
        if (index >= 0 && index < n) {
            s->wanted[index] = true;
        }
    }
}

void backend_sampling::end() {
    s->active.clear();
    if (!s->error.empty()) {
        throw std::runtime_error(s->error);
    }
}

float * backend_sampling::logits(int32_t index) {
    if (index < 0 || index >= (int32_t) s->at.size() || s->at[index] < 0) {
        return nullptr;
    }
    return s->host + (size_t) s->at[index] * s->vocabulary;
}

size_t backend_sampling::device_bytes() const { return s->bytes; }

size_t backend_sampling::host_bytes() const {
    return 3 * sizeof(float) * s->vocabulary * s->outputs;  // where llama.cpp's own samplers would put what they give
}

ggml_backend_dev_t backend_sampling::device() const { return s->dev; }
