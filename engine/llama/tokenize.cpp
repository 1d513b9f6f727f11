#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "tokenize.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <exception>
#include <functional>
#include <stdexcept>
#include <utility>

#ifdef __GLIBCXX__
#include <sys/mman.h>
#include <ucontext.h>
#endif

namespace {

// Where llama.cpp has no splitter by hand for a tokenizer's pattern, libstdc++'s regex recurses once for each
// character that a part of the pattern takes.
constexpr size_t frame       = 640;        // bytes of stack for each of them, above what was measured
constexpr size_t small_run   = 8 << 10;    // characters for which the stack of any thread is large enough
constexpr size_t longest_run = 256 << 10;  // characters after which the text is cut

bool is_letter(unsigned char c) { return std::isalpha(c) != 0 || c >= 0x80; }

// A stretch is what one part of a pattern may take: text without a space, text that is only space, or words with
// spaces between them. Characters that are not ASCII may belong to any.
struct stretch {
    size_t length = 0;  // characters
    size_t longest = 0;

    void go_on(bool belongs) {
        length  = belongs ? length + 1 : 0;
        longest = std::max(longest, length);
    }
};

struct piece_of_text {
    size_t offset;
    size_t length;
    size_t stretch;  // characters of its longest
};

// cut returns a text in pieces whose stretches are not absurd: nearly always one. A cut lies before a digit after a
// letter, if there is one, where patterns divide text anyway.
std::vector<piece_of_text> cut(const char * text, size_t len) {
    std::vector<piece_of_text> pieces;
    size_t  begin = 0;
    size_t  divides = 0;  // where text may be cut, after begin; 0 if nowhere
    stretch solid, space, words;
    for (size_t i = 0; i < len; i++) {
        const auto c = (unsigned char) text[i];
        if ((c & 0xC0) == 0x80) {
            continue;  // within a character
        }
        const bool wide  = c >= 0x80;
        const bool blank = std::isspace(c) != 0;
        solid.go_on(!blank);
        space.go_on(blank || wide);
        words.go_on(blank || wide || std::isalnum(c) != 0);
        if (i > begin && std::isdigit(c) != 0 && is_letter((unsigned char) text[i - 1])) {
            divides = i;
        }
        if (std::max({solid.length, space.length, words.length}) < longest_run) {
            continue;
        }

        const size_t end = divides > begin + (i - begin) / 2 ? divides : i;
        pieces.push_back({begin, end - begin, longest_run});
        begin   = end;
        divides = 0;
        i       = end - 1;
        solid = space = words = stretch();
    }
    if (begin < len) {
        pieces.push_back({begin, len - begin, std::max({solid.longest, space.longest, words.longest})});
    }
    return pieces;
}

#ifdef __GLIBCXX__ // whose regex recurses once for each character

// switched is what on_large_stack runs on another stack.
struct switched {
    std::function<void()> f;
    std::exception_ptr    failed;
    ucontext_t            back, there;
};

// run_switched is where another stack begins. What f throws may not leave it. makecontext passes ints.
void run_switched(unsigned upper, unsigned lower) {
    auto * s = (switched *) (((uintptr_t) upper << 32) | lower);
    try {
        s->f();
    } catch (...) {
        s->failed = std::current_exception();
    }
}

// on_large_stack runs f on a stack of so many bytes, and throws what it throws. It stays on this thread, whose clock
// counts what a call takes (engine/remote/clocks.go).
void on_large_stack(size_t bytes, std::function<void()> f) {
    constexpr size_t guard = 64 << 10;
    bytes                  = guard + ((bytes + 0xFFFF) & ~(size_t) 0xFFFF);
    void * stack           = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        throw std::runtime_error("there is no memory to split such a long word");
    }

    switched s{std::move(f), nullptr, {}, {}};
    const bool ready = mprotect(stack, guard, PROT_NONE) == 0 && getcontext(&s.there) == 0;
    if (ready) {
        s.there.uc_stack.ss_sp   = (char *) stack + guard;
        s.there.uc_stack.ss_size = bytes - guard;
        s.there.uc_link          = &s.back;
        const auto at            = (uintptr_t) &s;
        makecontext(&s.there, (void (*)()) run_switched, 2, (unsigned) (at >> 32), (unsigned) at);
        swapcontext(&s.back, &s.there);
    }
    munmap(stack, bytes);
    if (!ready) {
        throw std::runtime_error("there is no stack to split such a long word");
    }
    if (s.failed) {
        std::rethrow_exception(s.failed);
    }
}

#else // the regex of libc++ keeps its states on the heap

void on_large_stack(size_t, const std::function<void()> & f) {
    f();
}

#endif

void append_tokens(const llama_vocab * vocab, const char * text, size_t len, std::vector<llama_token> & out) {
    const size_t before = out.size();
    out.resize(before + len + 4);
    int32_t n = llama_tokenize(vocab, text, (int32_t) len, out.data() + before, (int32_t) (len + 4), false, false);
    if (n == INT32_MIN) {
        throw std::length_error("the text has more tokens than an int32 can count");
    }
    if (n < 0) {
        out.resize(before - n);
        n = llama_tokenize(vocab, text, (int32_t) len, out.data() + before, -n, false, false);
    }
    out.resize(before + std::max(n, 0));
}

// split appends the tokens of a text without control tokens.
void split(const llama_vocab * vocab, const char * text, size_t len, std::vector<llama_token> & out) {
    if (llama_vocab_type(vocab) != LLAMA_VOCAB_TYPE_BPE || len < small_run) {
        append_tokens(vocab, text, len, out);
        return;
    }
    for (const piece_of_text & p : cut(text, len)) {
        const auto go = [&] { append_tokens(vocab, text + p.offset, p.length, out); };
        if (p.stretch < small_run) {
            go();
        } else {
            on_large_stack((small_run + p.stretch) * frame + (4 << 20), go);
        }
    }
}

// marks_turns says whether a text has the form of tokens for turns. llama.cpp takes <|start|> and others of gpt-oss for
// user-defined tokens, so that answers show them.
bool marks_turns(const std::string & text) {
    const auto between = [&text](const std::string & begin, const std::string & end) {
        return text.size() > begin.size() + end.size() && text.compare(0, begin.size(), begin) == 0 &&
               text.compare(text.size() - end.size(), end.size(), end) == 0;
    };
    return between("<|", "|>") || between("<｜", "｜>");
}

}  // namespace

special_tokens::special_tokens(const llama_vocab * vocab) {
    const int32_t n = llama_vocab_n_tokens(vocab);
    for (llama_token id = 0; id < n; id++) {
        const auto attr = llama_vocab_get_attr(vocab, id);
        if ((attr & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED | LLAMA_TOKEN_ATTR_UNKNOWN)) != 0) {
            const std::string text    = llama_vocab_get_text(vocab, id);
            const bool        control = (attr & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) != 0;
            tokens.push_back({id, attr, text, control, marks_turns(text)});
        }
    }
    // As llama.cpp sorts them, so that those of equal length come in the same order.
    std::sort(tokens.begin(), tokens.end(), [](const token & a, const token & b) { return a.text.size() > b.text.size(); });

    nodes.emplace_back();
    for (size_t rank = 0; rank < tokens.size(); rank++) {
        if (tokens[rank].text.empty()) {
            continue;
        }
        int32_t at = 0;
        for (const char c : tokens[rank].text) {
            auto & children = nodes[at].children;
            const auto next = std::find_if(children.begin(), children.end(), [c](const auto & k) { return k.first == c; });
            if (next != children.end()) {
                at = next->second;
                continue;
            }
            children.emplace_back(c, (int32_t) nodes.size());
            at = (int32_t) nodes.size();
            nodes.emplace_back();
        }
        nodes[at].ranks.push_back((int32_t) rank);
    }
    for (size_t i = 0; i < nodes[0].children.size(); i++) {
        first[(unsigned char) nodes[0].children[i].first] = nodes[0].children[i].second;
    }
}

std::vector<special_tokens::match> special_tokens::find(const char * text, size_t len, bool control,
                                                        const std::vector<byte_range> & quoted,
                                                        std::vector<size_t> & cuts) const {
    // Where the text of each token is, in the order of ranks and then of the text.
    std::vector<match> all;
    auto               next_quoted = quoted.begin();  // that does not end before i
    for (size_t i = 0; i < len; i++) {
        while (next_quoted != quoted.end() && next_quoted->end <= i) {
            next_quoted++;
        }
        const size_t unquoted = next_quoted == quoted.end() ? len : next_quoted->begin;  // up to where, from i on
        int32_t at = first[(unsigned char) text[i]];
        for (size_t k = i + 1; at != 0; k++) {
            for (const int32_t rank : nodes[at].ranks) {
                const token & t = tokens[rank];
                if (k > unquoted ? !t.control && !t.marks : control || !t.control) {
                    all.push_back({rank, i, k});
                } else if (!t.control && (cuts.empty() || cuts.back() != i + 1)) {
                    cuts.push_back(i + 1);
                }
            }
            if (k == len) {
                break;
            }
            const auto & children = nodes[at].children;
            const auto next =
                std::find_if(children.begin(), children.end(), [&](const auto & c) { return c.first == text[k]; });
            at = next == children.end() ? 0 : next->second;
        }
    }
    if (all.empty()) {
        return all;
    }
    std::stable_sort(all.begin(), all.end(), [](const match & a, const match & b) { return a.rank < b.rank; });

    // Longer tokens come first, and take their text and the space beside it that they are to take.
    std::vector<bool>  taken(len);
    std::vector<match> kept;
    for (match m : all) {
        const token & t = tokens[m.rank];
        if (std::find(taken.begin() + m.begin, taken.begin() + m.end, true) != taken.begin() + m.end) {
            continue;
        }
        if ((t.attr & LLAMA_TOKEN_ATTR_LSTRIP) != 0) {
            while (m.begin > 0 && !taken[m.begin - 1] && std::isspace((unsigned char) text[m.begin - 1]) != 0) {
                m.begin--;
            }
        }
        if ((t.attr & LLAMA_TOKEN_ATTR_RSTRIP) != 0) {
            while (m.end < len && !taken[m.end] && std::isspace((unsigned char) text[m.end]) != 0) {
                m.end++;
            }
        }
        std::fill(taken.begin() + m.begin, taken.begin() + m.end, true);
        kept.push_back(m);
    }
    std::sort(kept.begin(), kept.end(), [](const match & a, const match & b) { return a.begin < b.begin; });
    return kept;
}

std::vector<llama_token> tokenize(const serve_model * model, const char * text, size_t len, bool ends, bool control,
                                  const std::vector<byte_range> & quoted) {
    std::call_once(model->special_made, [model] { model->special = std::make_shared<special_tokens>(model->vocab); });
    const llama_vocab *      vocab = model->vocab;
    std::vector<llama_token> out;
    std::vector<llama_token> last;
    if (ends) {
        // What an empty text has is what comes before any text and after it.
        llama_token both[8];
        const int32_t n = llama_tokenize(vocab, "", 0, both, 8, true, false);
        const bool begins = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_WPM || llama_vocab_get_add_bos(vocab);
        const int32_t before = n > 0 && begins && both[0] == llama_vocab_bos(vocab) ? 1 : 0;
        out.assign(both, both + before);
        last.assign(both + before, both + std::max(n, before));
    }

    size_t              at = 0;
    std::vector<size_t> cuts;
    const auto          matches  = model->special->find(text, len, control, quoted, cuts);
    auto                next_cut = cuts.begin();
    const auto split_to = [&](size_t end) {
        for (; next_cut != cuts.end() && *next_cut < end; next_cut++) {
            if (*next_cut > at) {
                split(vocab, text + at, *next_cut - at, out);
                at = *next_cut;
            }
        }
        if (end > at) {
            split(vocab, text + at, end - at, out);
        }
    };
    for (const special_tokens::match & m : matches) {
        split_to(m.begin);
        out.push_back(model->special->id(m));
        at = m.end;
    }
    split_to(len);
    out.insert(out.end(), last.begin(), last.end());
    return out;
}

namespace {

int32_t * copied(const std::vector<llama_token> & tokens, size_t * n) {
    auto * out = (int32_t *) malloc((tokens.size() + 1) * sizeof(int32_t));
    if (out == nullptr) {
        throw std::bad_alloc();
    }
    std::copy(tokens.begin(), tokens.end(), out);
    *n = tokens.size();
    return out;
}

}  // namespace

extern "C" {

int32_t * serve_tokenize(const serve_model * model, const char * text, size_t len, bool add_special,
                         bool parse_special, const size_t * quoted, size_t n_quoted, size_t * n, serve_error * err) {
    return guard(err, [&] {
        std::vector<byte_range> ranges;
        for (size_t i = 0; i < n_quoted; i++) {
            if (quoted[2 * i] < quoted[2 * i + 1]) {
                ranges.push_back({quoted[2 * i], quoted[2 * i + 1]});
            }
        }
        return copied(tokenize(model, text, len, add_special, parse_special, ranges), n);
    });
}

int32_t * serve_tokenize_plain(const serve_model * model, const char * text, size_t len, bool add_special,
                               bool parse_special, size_t * n, serve_error * err) {
    return guard(err, [&] {
        std::vector<llama_token> out(4 * len + 16);
        out.resize(std::max(0, llama_tokenize(model->vocab, text, (int32_t) len, out.data(), (int32_t) out.size(),
                                              add_special, parse_special)));
        return copied(out, n);
    });
}

}  // extern "C"
