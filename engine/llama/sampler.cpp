#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"

#include "context.h"
#include "grammar.h"

#include "common.h"
#include "json.h"
#include "llama.h"
#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct serve_sampler {
    common_sampler * smpl   = nullptr;
    bool             greedy = false;          // the token of the greatest logit, once the biases are added
    bool             picks  = false;          // pick draws; otherwise the chain's last sampler does (mirostat)
    uint32_t         seed   = 0;
    uint64_t         drawn  = 0;              // tokens so far
    mutable uint64_t tries  = 0;              // draws for the token that comes
    std::vector<llama_logit_bias> biases;
    uint64_t                 least  = 0;      // tokens before one of the ends can be drawn
    std::vector<llama_token> ends;
    float            below  = INFINITY;       // tokens so far below the best would be taken away first of all
    // Not common_sampler's: that asks about every token whenever the drawn one does not fit.
    std::unique_ptr<grammar> rules;
    // Whether all this can be drawn where the logits are, too, and how; at and biases depend on the token.
    bool                          on_backend = false;
    backend_draw                  shape;
    std::vector<llama_logit_bias> once;   // the biases, each token once
    std::vector<llama_logit_bias> early;  // the same while no end may come
};

namespace {

// raw_logprobs fills the row's logprob and its most probable alternatives from the
// model's own distribution. It reads the logits once for the normaliser, once for the top.
void raw_logprobs(const float * logits, int32_t n_vocab, serve_row & row, int32_t * top_tokens, float * top_logprobs) {
    const float max = *std::max_element(logits, logits + n_vocab);
    double      sum = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        sum += std::exp(logits[i] - max);
    }
    const float norm = max + (float) std::log(sum);
    row.logprob      = logits[row.token] - norm;

    const int32_t n = std::min(row.n_top, n_vocab);
    // A heap of the best n seen so far, its worst on top; equal logits keep the lower token first.
    auto better = [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); };
    std::vector<int32_t> heap;
    heap.reserve(n + 1);
    for (int32_t i = 0; i < n_vocab && n > 0; i++) {
        if ((int32_t) heap.size() < n) {
            heap.push_back(i);
            std::push_heap(heap.begin(), heap.end(), better);
        } else if (better(i, heap.front())) {
            std::pop_heap(heap.begin(), heap.end(), better);
            heap.back() = i;
            std::push_heap(heap.begin(), heap.end(), better);
        }
    }
    std::sort_heap(heap.begin(), heap.end(), better);
    for (int32_t i = 0; i < n; i++) {
        top_tokens[i]   = heap[i];
        top_logprobs[i] = logits[heap[i]] - norm;
    }
    row.n_top = n;
}

// argmax returns the first of the greatest logits; -1 when none is above -INFINITY
// (a model that computes NaN). Sixteen lanes, so that the compiler uses vectors.
int32_t argmax(const float * logits, int32_t n) {
    constexpr int32_t lanes = 16;
    float best[lanes];
    std::fill(best, best + lanes, -INFINITY);
    int32_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (int32_t k = 0; k < lanes; k++) {
            best[k] = logits[i + k] > best[k] ? logits[i + k] : best[k];
        }
    }
    float max = *std::max_element(best, best + lanes);
    for (; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    if (max == -INFINITY) {
        return -1;
    }
    return (int32_t) (std::find(logits, logits + n, max) - logits);
}

// changed_logits biases tokens of a row, or takes them out of it, for as long as it
// lives: other rows and the log-probabilities read the logits too.
struct changed_logits {
    explicit changed_logits(float * logits) : logits(logits) {}
    ~changed_logits() {
        for (size_t i = kept.size(); i-- > 0;) {
            logits[kept[i].first] = kept[i].second;
        }
    }
    changed_logits(const changed_logits &) = delete;
    changed_logits & operator=(const changed_logits &) = delete;

    void add(llama_token token, float bias) {
        kept.emplace_back(token, logits[token]);
        logits[token] += bias;
    }
    void hide(llama_token token) { add(token, -INFINITY); }

  private:
    float *                                     logits;
    std::vector<std::pair<llama_token, float>> kept;
};

// best_of returns the token of the greatest logit, the first of equals; -1 when none is finite.
llama_token best_of(const float * logits, const std::vector<llama_token> & tokens) {
    llama_token best = -1;
    for (const llama_token t : tokens) {
        const bool first  = best >= 0 && logits[t] == logits[best] && t < best;
        const bool better = logits[t] > (best < 0 ? -INFINITY : logits[best]) || first;
        if (better) {
            best = t;
        }
    }
    return best;
}

// uniform returns a number from 0 to 1 that depends on a seed and on which draw of which
// token it is for, and on nothing that came before: a sampler that is made anew, in
// another process, goes on as the first would have.
double uniform(uint32_t seed, uint64_t token, uint64_t attempt) {
    uint64_t x = (uint64_t) seed << 32 ^ token << 8 ^ attempt;
    for (int round = 0; round < 2; round++) {  // of splitmix64
        x += 0x9e3779b97f4a7c15;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        x ^= x >> 31;
    }
    return (double) (x >> 11) * 0x1p-53;
}

// pick draws one of the candidates that the chain has left, by their probabilities. They
// lie in the order of their numbers: in that of their probabilities, two that are nearly
// as probable would change places with every rounding, and the draw with them.
llama_token pick(const llama_token_data_array & array, double at) {
    const auto by_number = [](const llama_token_data & a, const llama_token_data & b) { return a.id < b.id; };
    if (!std::is_sorted(array.data, array.data + array.size, by_number)) {
        std::sort(array.data, array.data + array.size, by_number);
    }
    float max = -INFINITY;
    for (size_t i = 0; i < array.size; i++) {
        max = std::max(max, array.data[i].logit);
    }
    double sum = 0;
    for (size_t i = 0; i < array.size; i++) {
        sum += array.data[i].p = std::exp(array.data[i].logit - max);
    }
    double left = sum * at;
    for (size_t i = 0; i < array.size; i++) {
        if ((left -= array.data[i].p) <= 0) {
            return array.data[i].id;
        }
    }
    return array.size > 0 ? array.data[array.size - 1].id : -1;
}

// draw draws a token by a row's sampler, from those listed or, for nullptr, from the
// whole vocabulary; -1 when none of them has a finite logit.
llama_token draw(serve_context * ctx, float * logits, const serve_row & row, const std::vector<llama_token> * tokens,
                 bool biased = true) {
    const serve_sampler * s = row.sampler;
    changed_logits changed(logits);
    if (biased) {
        for (const auto & b : s->biases) {
            changed.add(b.token, b.bias);
        }
    }
    if (s->drawn < s->least && tokens == nullptr) {
        for (const llama_token t : s->ends) {
            changed.hide(t);
        }
    }
    const llama_token best = tokens == nullptr ? argmax(logits, ctx->n_vocab) : best_of(logits, *tokens);
    if (s->greedy || best < 0) {  // llama.cpp's samplers abort the process when no logit is finite
        return best;
    }
    static thread_local std::vector<llama_token_data> candidates;
    candidates.clear();
    const float least = logits[best] - s->below;
    const auto  add   = [&](llama_token t) {
        if (logits[t] >= least && logits[t] > -INFINITY) {
            candidates.push_back({t, logits[t], 0.0f});
        }
    };
    if (tokens == nullptr) {
        for (llama_token t = 0; t < ctx->n_vocab; t++) {
            add(t);
        }
    } else {
        for (const llama_token t : *tokens) {
            add(t);
        }
    }
    llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
    llama_sampler_apply(common_sampler_get(s->smpl), &array);
    if (s->picks) {
        return pick(array, uniform(s->seed, s->drawn, s->tries++));
    }
    return array.selected < 0 ? -1 : array.data[array.selected].id;
}

// without returns the tokens that are none of the others.
std::vector<llama_token> without(const std::vector<llama_token> & tokens, const std::vector<llama_token> & others) {
    std::vector<llama_token> out;
    std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(out), [&](llama_token t) {
        return std::find(others.begin(), others.end(), t) == others.end();
    });
    return out;
}

// draw_by_grammar draws a token that the grammar allows. Where little may come, the
// grammar lists it and the draw is from the list. Where much may come, as within a
// string, a token is drawn first and then shown to the grammar: drawing without putting
// back until one fits has the distribution of one draw from those that fit.
llama_token draw_by_grammar(serve_context * ctx, float * logits, const serve_row & row) {
    constexpr int draws = 5;
    grammar & rules = *row.sampler->rules;
    static thread_local std::vector<llama_token> tokens;
    if (!rules.allowed(tokens, ctx->n_vocab / 16)) {
        changed_logits changed(logits);
        for (int i = 0; i < draws; i++) {
            const llama_token token = draw(ctx, logits, row, nullptr);
            if (token < 0) {
                break;
            }
            if (rules.fits(token)) {
                return token;
            }
            changed.hide(token);
        }
        rules.allowed(tokens, SIZE_MAX);
    }
    if (tokens.empty()) {
        throw std::runtime_error("the grammar allows no token");
    }
    if (row.sampler->drawn < row.sampler->least) {
        const std::vector<llama_token> others = without(tokens, row.sampler->ends);
        if (!others.empty()) {
            return draw(ctx, logits, row, &others);
        }
    }
    const llama_token token = draw(ctx, logits, row, &tokens);
    if (token < 0) {  // all that the grammar allows is banned, such as the end of an answer that is complete
        return draw(ctx, logits, row, &tokens, false);
    }
    return token;
}

// accept tells a sampler which token came.
void accept(serve_sampler * s, llama_token token) {
    if (s->rules) {
        s->rules->accept(token);
    }
    if (!s->greedy) {
        common_sampler_accept(s->smpl, token, true);
    }
    s->drawn++;
    s->tries = 0;
}

// take_drawn takes the token that a decode has drawn for a row. It reports false if the host must draw it.
bool take_drawn(const backend_draw & d, serve_row & row) {
    if (d.token == backend_draw::no_logit) {
        throw std::runtime_error("the model computed no finite logit");
    }
    if (d.index != row.index || d.token < 0) {
        return false;
    }
    row.token      = d.token;
    row.on_backend = true;
    accept(row.sampler, row.token);
    return true;
}

void sample_row(serve_context * ctx, float * logits, serve_row & row, int32_t * top_tokens, float * top_logprobs) {
    if (logits == nullptr) {
        throw std::runtime_error("no logits at batch index " + std::to_string(row.index));
    }
    if (row.sampler == nullptr) {
        return raw_logprobs(logits, ctx->n_vocab, row, top_tokens, top_logprobs);
    }
    grammar * rules = row.sampler->rules.get();
    row.token = rules != nullptr ? draw_by_grammar(ctx, logits, row) : draw(ctx, logits, row, nullptr);
    if (row.token < 0) {
        throw std::runtime_error("the model computed no finite logit");
    }
    accept(row.sampler, row.token);
    if (row.n_top >= 0) {
        raw_logprobs(logits, ctx->n_vocab, row, top_tokens, top_logprobs);
    }
}

// params_reader reads the members of an object and remembers which.
struct params_reader {
    const common_json &      j;
    std::vector<std::string> known;

    template <typename T> void read(const char * name, T & variable) {
        known.push_back(name);
        variable = j.value(name, variable);
    }

    // refuse_others throws if there is a member that nobody has read: a parameter that was declared in
    // Go alone would have no effect.
    void refuse_others() const {
        for (const auto & [name, value] : j.items()) {
            if (std::find(known.begin(), known.end(), name) == known.end()) {
                throw std::invalid_argument("no sampler has the parameter " + name);
            }
        }
    }
};

// read_params reads the parameters of the samplers: here each gets its place in llama.cpp's.
common_params_sampling read_params(const common_json & j) {
    common_params_sampling p;
    p.no_perf = true;

    // The others are read apart from these.
    params_reader r{j, {"dry_sequence_breakers", "logit_bias", "ignore_eos", "drawn", "grammar", "grammar_lazy",
                        "grammar_from_chat", "generation_prompt", "triggers", "min_tokens", "ends"}};
    r.read("seed", p.seed);
    r.read("temperature", p.temp);
    r.read("dynatemp_range", p.dynatemp_range);
    r.read("dynatemp_exponent", p.dynatemp_exponent);
    r.read("top_k", p.top_k);
    r.read("top_p", p.top_p);
    r.read("min_p", p.min_p);
    r.read("typical_p", p.typ_p);
    r.read("top_n_sigma", p.top_n_sigma);
    r.read("xtc_probability", p.xtc_probability);
    r.read("xtc_threshold", p.xtc_threshold);
    r.read("repeat_last_n", p.penalty_last_n);
    r.read("repeat_penalty", p.penalty_repeat);
    r.read("frequency_penalty", p.penalty_freq);
    r.read("presence_penalty", p.penalty_present);
    r.read("dry_multiplier", p.dry_multiplier);
    r.read("dry_base", p.dry_base);
    r.read("dry_allowed_length", p.dry_allowed_length);
    r.read("dry_penalty_last_n", p.dry_penalty_last_n);
    r.read("mirostat", p.mirostat);
    r.read("mirostat_tau", p.mirostat_tau);
    r.read("mirostat_eta", p.mirostat_eta);
    r.refuse_others();

    if (j.contains("dry_sequence_breakers")) {
        p.dry_sequence_breakers = j.at("dry_sequence_breakers").get<std::vector<std::string>>();
    }
    return p;
}

// read_biases reads what is added to logits, by draw: a bias of -100 or less bans a token.
std::vector<llama_logit_bias> read_biases(const common_json & j, const llama_vocab * vocab) {
    std::vector<llama_logit_bias> biases;
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);

    for (const auto & pair : j.contains("logit_bias") ? j.at("logit_bias") : common_json::array()) {
        const int32_t token = pair.at(0).get<int32_t>();
        if (token < 0 || token >= n_vocab) {
            throw std::invalid_argument("logit_bias names token " + std::to_string(token) + "; the vocabulary has " +
                                        std::to_string(n_vocab));
        }
        const float bias = pair.at(1).get<float>();
        biases.push_back({token, bias <= -100 ? -INFINITY : bias});
    }

    if (j.value("ignore_eos", false)) {
        for (int32_t i = 0; i < n_vocab; i++) {
            if (llama_vocab_is_eog(vocab, i)) {
                biases.push_back({i, -INFINITY});
            }
        }
    }
    return biases;
}

// read_ends reads the tokens that end an answer.
std::vector<llama_token> read_ends(const common_json & j, const llama_vocab * vocab) {
    std::vector<llama_token> ends;
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);

    for (int32_t i = 0; i < n_vocab; i++) {
        if (llama_vocab_is_eog(vocab, i)) {
            ends.push_back(i);
        }
    }
    for (const auto & end : j.contains("ends") ? j.at("ends") : common_json::array()) {
        const int32_t token = end.get<int32_t>();
        if (token >= 0 && token < n_vocab) {  // others never come
            ends.push_back(token);
        }
    }
    return ends;
}

// active_samplers returns the names of the samplers in a chain that do anything, in order. In the place
// of one that is off llama.cpp puts an empty one, whose name begins with a question mark.
std::vector<std::string> active_samplers(const llama_sampler * chain) {
    std::vector<std::string> names;
    for (int32_t i = 0; i < llama_sampler_chain_n(chain); i++) {
        const std::string name = llama_sampler_name(llama_sampler_chain_get(const_cast<llama_sampler *>(chain), i));
        if (name.rfind('?', 0) != 0) {
            names.push_back(name);
        }
    }
    return names;
}

// keeps_best tells of samplers that leave the token of the greatest logit what it is, whatever else they
// take away. One that is not listed is never skipped.
bool keeps_best(const std::string & name) {
    return name == "top-k" || name == "top-p" || name == "min-p" || name == "top-n-sigma" || name == "temp" ||
           name == "temp-ext";
}

// shorten finds out what draw need not do, from the samplers that are in the chain.
void shorten(serve_sampler * s, const common_params_sampling & p) {
    const std::vector<std::string> active = active_samplers(common_sampler_get(s->smpl));

    s->greedy = p.temp <= 0 && std::all_of(active.begin(), active.end(), keeps_best);
    if (!active.empty() && active.front() == "min-p" && p.min_p <= 1 && p.min_keep <= 1) {
        s->below = -std::log(p.min_p);
    }
}

// merged returns biases with each token once: the operations of a graph have no order among them.
std::vector<llama_logit_bias> merged(std::vector<llama_logit_bias> biases, const std::vector<llama_token> & bans) {
    for (const llama_token t : bans) {
        biases.push_back({t, -INFINITY});
    }
    std::stable_sort(biases.begin(), biases.end(), [](const auto & a, const auto & b) { return a.token < b.token; });
    std::vector<llama_logit_bias> once;
    for (const auto & b : biases) {
        if (!once.empty() && once.back().token == b.token) {
            once.back().bias += b.bias;
        } else {
            once.push_back(b);
        }
    }
    return once;
}

// in_order reports whether the samplers of a chain are some of those that backend_sampling has, in its order.
bool in_order(const std::vector<std::string> & active) {
    static const std::vector<std::vector<std::string>> steps = {{"top-k"}, {"top-p"}, {"min-p"}, {"temp", "temp-ext"}};
    size_t at = 0;
    for (const auto & step : steps) {
        if (at < active.size() && std::find(step.begin(), step.end(), active[at]) != step.end()) {
            at++;
        }
    }
    return at == active.size();
}

// find_shape finds out whether a sampler's tokens can be drawn where the logits are, and how. That depends on what the
// request asks for and on nothing else, so that its answer does not depend on who else is in a batch.
void find_shape(serve_sampler * s, const common_params_sampling & p, int32_t n_vocab) {
    constexpr float nothing = -2e-38f;  // as little as no device takes for 0

    s->once  = merged(s->biases, {});
    s->early = merged(s->biases, s->ends);
    const bool small = std::max(s->once.size(), s->early.size()) <= backend_draw::max_biases;
    const bool plain = p.dynatemp_range <= 0 && p.min_keep <= 1 &&
                       in_order(active_samplers(common_sampler_get(s->smpl)));
    s->on_backend = small && s->picks && (plain || s->greedy);

    backend_draw & d = s->shape;
    if (s->greedy || p.top_k == 1) {
        d.above = nothing;
        return;
    }
    d.inverse = std::min(1 / p.temp, 1e30f);
    d.above   = p.min_p > 0 ? std::min(nothing, std::nextafter(std::log(p.min_p), -INFINITY)) : -3e38f;
    d.count   = p.top_k < n_vocab ? std::max(p.top_k, 0) : 0;
    d.mass    = p.top_p < 1 ? std::max(p.top_p, 1e-30f) : 0;
}

// draw_of returns how the next token of a sampler is drawn where the logits are.
backend_draw draw_of(const serve_row & row) {
    const serve_sampler * s = row.sampler;
    backend_draw d = s->shape;
    d.index  = row.index;
    d.biases = s->drawn < s->least ? &s->early : &s->once;
    // Rounded, it may be 1, which is beyond all tokens.
    d.at = s->greedy ? 0 : std::min((float) uniform(s->seed, s->drawn, 0), 0x1.fffffep-1f);
    return d;
}

}  // namespace

extern "C" {

serve_sampler * serve_sampler_new(const serve_model * model, const char * json, serve_error * err) {
    return guard(err, [&]() -> serve_sampler * {
        const common_json      j = common_json::parse(json);
        common_params_sampling p = read_params(j);
        std::unique_ptr<serve_sampler, decltype(&serve_sampler_free)> s(new serve_sampler(), serve_sampler_free);

        s->biases = read_biases(j, model->vocab);
        s->smpl   = common_sampler_init(model->model, p);
        s->seed   = p.seed;
        s->least  = j.value("min_tokens", 0);
        if (s->least > 0) {
            s->ends = read_ends(j, model->vocab);
        }
        if (p.mirostat == 0) {
            // The chain ends in a draw by random numbers of its own; pick draws in its place.
            llama_sampler * chain = common_sampler_get(s->smpl);
            llama_sampler_free(llama_sampler_chain_remove(chain, llama_sampler_chain_n(chain) - 1));
            s->picks = true;
        }
        shorten(s.get(), p);

        find_shape(s.get(), p, llama_vocab_n_tokens(model->vocab));

        if (!j.value("grammar", "").empty()) {
            s->rules      = new_grammar(model, j);
            s->on_backend = false;
        }
        if (j.contains("drawn")) {
            for (const auto & token : j.at("drawn")) {
                accept(s.get(), token.get<llama_token>());
            }
        }
        return s.release();
    });
}

void serve_sampler_free(serve_sampler * s) {
    if (s != nullptr) {
        common_sampler_free(s->smpl);
        delete s;
    }
}

void serve_plan(serve_context * ctx, int32_t n, const serve_row * rows, serve_error * err) {
    guard(err, [&] {
        ctx->plan_nothing();
        if (!ctx->backend) {
            return;
        }
        ctx->drawn.assign(n, -1);
        for (int32_t r = 0; r < n; r++) {
            const serve_sampler * s = rows[r].sampler;
            // What is drawn of a draft depends on what the row before has drawn.
            const bool drafts = rows[r].draft >= 0 || (r + 1 < n && rows[r + 1].draft >= 0);
            if (s == nullptr || !s->on_backend || rows[r].n_top >= 0 || drafts) {
                ctx->wanted.push_back(rows[r].index);
                continue;
            }
            ctx->drawn[r] = (int32_t) ctx->backend->draws.size();
            ctx->backend->draws.push_back(draw_of(rows[r]));
        }
    });
}

void serve_sample(serve_context * ctx, int32_t n, serve_row * rows, int32_t stride, int32_t * top_tokens,
                  float * top_logprobs, serve_error * err) {
    guard(err, [&] {
        // The rows are found here: llama.cpp puts them in order when first asked.
        std::vector<float *>     logits(n);
        std::vector<serve_error> errors(n);
        const std::vector<int32_t> drawn = std::move(ctx->drawn);
        int32_t on_host = 0;
        for (int32_t r = 0; r < n; r++) {
            rows[r].on_backend = false;
            guard(&errors[r], [&] {
                const int32_t d = r < (int32_t) drawn.size() ? drawn[r] : -1;
                if (d < 0 || !take_drawn(ctx->backend->draws[d], rows[r])) {
                    logits[r] = ctx->logits(rows[r].index);
                    on_host++;
                }
            });
            rows[r].code = errors[r].code;
        }
        ctx->plan_nothing();
        const auto sample = [&](int32_t r) {
            if (rows[r].on_backend) {
                return;
            }
            if (rows[r].draft >= 0) {
                const serve_row & before = rows[r - 1];
                rows[r].refused = before.refused || before.code != SERVE_OK || before.token != rows[r].draft;
                if (rows[r].refused) {
                    rows[r].code = SERVE_OK;
                    return;
                }
            }
            if (rows[r].code != SERVE_OK) {
                return;
            }
            const size_t at = (size_t) r * stride;
            guard(&errors[r], [&] { sample_row(ctx, logits[r], rows[r], top_tokens + at, top_logprobs + at); });
            rows[r].code = errors[r].code;
        };
        // Two choices of one request may draw from the same row; a bias is put into
        // it meanwhile, so the rows of one index stay on one thread. Drafts stay with the row they follow.
        std::vector<int32_t> owner(n);
        for (int32_t r = 0; r < n; r++) {
            owner[r] = r > 0 && rows[r].draft >= 0 ? owner[r - 1] : rows[r].index;
        }
        const bool parallel = on_host > 1 && (int64_t) on_host * ctx->n_vocab >= 1 << 15;
        if (parallel) {
            ctx->sampling.run(ctx->processor, ctx->pool.get(), ctx->n_threads, [&](int ith, int nth) {
                for (int32_t r = 0; r < n; r++) {
                    if (owner[r] % nth == ith) {
                        sample(r);
                    }
                }
            });
        } else {
            for (int32_t r = 0; r < n; r++) {
                sample(r);
            }
        }
        for (int32_t r = 0; r < n; r++) {
            if (errors[r].code != SERVE_OK && err->code == SERVE_OK) {
                *err = errors[r];
            } else {
                free(errors[r].message);
            }
        }
    });
}

}  // extern "C"
