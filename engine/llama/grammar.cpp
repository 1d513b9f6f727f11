#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "grammar.h"

#include <algorithm>
#include <stdexcept>

namespace {

// What one answer may remember, 5 MB of states and 12 MB of what they are. What is
// forgotten is found again.
constexpr size_t max_states = 4096;
constexpr size_t max_known  = 1 << 20;
// Ways to go on at once. Only a grammar that means the same in many ways has more than hundreds.
constexpr size_t max_configs = 1 << 15;
// Bytes in which a pattern may match. The patterns are templates' own, of a few words;
// libstdc++ matches by recursion, and the answer may be long.
constexpr size_t pattern_window = 512;

bool is_token(const llama_grammar_element & e) { return e.type == LLAMA_GRETYPE_TOKEN || e.type == LLAMA_GRETYPE_TOKEN_NOT; }

bool is_char(const llama_grammar_element & e) {
    return e.type == LLAMA_GRETYPE_CHAR || e.type == LLAMA_GRETYPE_CHAR_NOT || e.type == LLAMA_GRETYPE_CHAR_ANY;
}

bool matches(const llama_grammar_element & e, llama_token token) {
    return (e.value == (uint32_t) token) == (e.type == LLAMA_GRETYPE_TOKEN);
}

}  // namespace

grammar::grammar(const token_trie & trie, const llama_vocab * vocab, const std::string & text, const triggers & when) :
    trie(trie), asleep(when.lazy), wake(when) {
    for (const std::string & p : when.patterns) {
        wake_patterns.push_back({p, std::regex(p)});
    }
    const read_grammar read(vocab, text);
    compile(read.rules);

    configs begin;
    for (int32_t at = rule_starts[read.root];; at++) {
        close(begin, at, none);
        while (!ends_sequence(elements[at])) {
            at++;
        }
        if (elements[at].type == LLAMA_GRETYPE_END) {
            break;
        }
    }
    now = intern(std::move(begin));
}

// compile lays the rules out in one array and makes the automata of their classes.
void grammar::compile(const llama_grammar_rules & rules) {
    for (const auto & rule : rules) {
        rule_starts.push_back((int32_t) elements.size());
        elements.insert(elements.end(), rule.begin(), rule.end());
    }
    classes.assign(elements.size(), none);
    following.resize(elements.size());
    for (size_t i = 0; i < elements.size(); i++) {
        following[i] = (int32_t) i + 1;
        if (!is_char(elements[i])) {
            continue;
        }
        std::vector<std::pair<uint32_t, uint32_t>> ranges;
        size_t k = i;
        do {
            if (elements[k].type == LLAMA_GRETYPE_CHAR_ANY) {
                ranges.emplace_back(1, 0x10ffff);
                k++;
            } else if (elements[k + 1].type == LLAMA_GRETYPE_CHAR_RNG_UPPER) {
                ranges.emplace_back(elements[k].value, elements[k + 1].value);
                k += 2;
            } else {
                ranges.emplace_back(elements[k].value, elements[k].value);
                k++;
            }
        } while (elements[k].type == LLAMA_GRETYPE_CHAR_ALT);
        following[i] = (int32_t) k;

        std::sort(ranges.begin(), ranges.end());
        std::vector<edge> edges;
        uint32_t at = 1;  // no text holds a NUL
        for (const auto & [lo, hi] : ranges) {
            if (elements[i].type == LLAMA_GRETYPE_CHAR_NOT) {
                if (at < lo) {
                    add_range(edges, at, lo - 1);
                }
            } else if (std::max(at, lo) <= hi) {
                add_range(edges, std::max(at, lo), hi);
            }
            at = std::max(at, hi == UINT32_MAX ? hi : hi + 1);
        }
        if (elements[i].type == LLAMA_GRETYPE_CHAR_NOT && at <= 0x10ffff) {
            add_range(edges, at, 0x10ffff);
        }
        classes[i] = intern_node(edges);
    }
}

int32_t grammar::intern_node(const std::vector<edge> & edges) {
    const auto [it, fresh] = node_ids.try_emplace(edges, (int32_t) nodes.size());
    if (fresh) {
        nodes.push_back(edges);
    }
    return it->second;
}

// add_range adds the UTF-8 of code points lo to hi to a class.
void grammar::add_range(std::vector<edge> & edges, uint32_t lo, uint32_t hi) {
    // Of one length and of one lead byte's bits each; the gap are the surrogates.
    static const struct { uint32_t lo, hi; int shift; uint8_t lead; } lengths[] = {
        {0x0, 0x7f, 0, 0x00}, {0x80, 0x7ff, 6, 0xc0}, {0x800, 0xd7ff, 12, 0xe0}, {0xe000, 0xffff, 12, 0xe0}, {0x10000, 0x10ffff, 18, 0xf0},
    };
    for (const auto & l : lengths) {
        const uint32_t from = std::max(lo, l.lo), to = std::min(hi, l.hi);
        if (from > to) {
            continue;
        }
        if (l.shift == 0) {
            edges.push_back({(uint8_t) from, (uint8_t) to, none});
            continue;
        }
        const uint32_t mask = (1u << l.shift) - 1;
        for (uint32_t lead = from >> l.shift; lead <= to >> l.shift; lead++) {
            const int32_t next = tail(lead == from >> l.shift ? from & mask : 0, lead == to >> l.shift ? to & mask : mask, l.shift);
            const uint8_t byte = l.lead | lead;
            if (!edges.empty() && edges.back().next == next && edges.back().hi + 1 == byte) {
                edges.back().hi = byte;
            } else {
                edges.push_back({byte, byte, next});
            }
        }
    }
}

// tail is the node for the last bytes of a character: bits values lo to hi of them.
int32_t grammar::tail(uint32_t lo, uint32_t hi, int bits) {
    const int         shift = bits - 6;
    const uint32_t    mask  = (1u << shift) - 1;
    std::vector<edge> edges;
    for (uint32_t b = lo >> shift; b <= hi >> shift; b++) {
        const int32_t next = shift == 0 ? none : tail(b == lo >> shift ? lo & mask : 0, b == hi >> shift ? hi & mask : mask, shift);
        const uint8_t byte = 0x80 | b;
        if (!edges.empty() && edges.back().next == next) {
            edges.back().hi = byte;
        } else {
            edges.push_back({byte, byte, next});
        }
    }
    return intern_node(edges);
}

int32_t grammar::intern_frame(int32_t pos, int32_t parent) {
    const auto [it, fresh] = frame_ids.try_emplace((uint64_t) (uint32_t) pos << 32 | (uint32_t) parent, (int32_t) frames.size());
    if (fresh) {
        frames.push_back({pos, parent});
    }
    return it->second;
}

// close adds all ways to go on from an element: into rules, and out of those that end.
void grammar::close(configs & to, int32_t pos, int32_t under) {
    closing.clear();
    std::vector<std::pair<int32_t, int32_t>> todo = {{pos, under}};
    while (!todo.empty()) {
        std::tie(pos, under) = todo.back();
        todo.pop_back();
        if (!closing.emplace(pos, under).second) {
            continue;
        }
        if (closing.size() > max_configs) {
            throw std::runtime_error("the grammar can be followed in too many ways at once");
        }
        const llama_grammar_element & e = elements[pos];
        if (ends_sequence(e)) {
            if (under == none) {
                to.ended = true;
            } else {
                todo.emplace_back(frames[under].pos, frames[under].parent);
            }
        } else if (e.type == LLAMA_GRETYPE_RULE_REF) {
            // A rule that ends with a rule is left at once: repetitions need no stack.
            const int32_t then = ends_sequence(elements[pos + 1]) ? under : intern_frame(pos + 1, under);
            for (int32_t at = rule_starts[e.value];; at++) {
                todo.emplace_back(at, then);
                while (!ends_sequence(elements[at])) {
                    at++;
                }
                if (elements[at].type == LLAMA_GRETYPE_END) {
                    break;
                }
            }
        } else {
            to.list.push_back({is_token(e) ? none : classes[pos], pos, under});
        }
    }
}

grammar::state grammar::intern(configs && c) {
    if (c.list.empty() && !c.ended) {
        return dead;
    }
    if (c.list.size() > max_configs) {
        throw std::runtime_error("the grammar can be followed in too many ways at once");
    }
    std::sort(c.list.begin(), c.list.end());
    c.list.erase(std::unique(c.list.begin(), c.list.end()), c.list.end());
    const auto [it, fresh] = state_ids.try_emplace(std::move(c), (state) states.size());
    if (fresh) {
        known += it->first.list.size();
        states.emplace_back();
        states.back().what = &it->first;
        std::fill(std::begin(states.back().next), std::end(states.back().next), unknown);
    }
    return it->second;
}

// step follows one byte. All bytes that the same edges hold go the same way, so one
// answer serves them all.
grammar::state grammar::step(state from, uint8_t byte) {
    if (states[from].next[byte] != unknown) {
        return states[from].next[byte];
    }
    int     lo = 0, hi = 255;
    configs to;
    for (const config & c : states[from].what->list) {
        if (c.node == none) {
            continue;
        }
        for (const edge & e : nodes[c.node]) {
            if (e.hi < byte) {
                lo = std::max(lo, e.hi + 1);
            } else if (e.lo > byte) {
                hi = std::min(hi, e.lo - 1);
            } else {
                lo = std::max<int>(lo, e.lo);
                hi = std::min<int>(hi, e.hi);
                if (e.next == none) {
                    close(to, following[c.pos], c.frame);
                } else {
                    to.list.push_back({e.next, c.pos, c.frame});
                }
            }
        }
    }
    const state next = intern(std::move(to));
    std::fill(states[from].next + lo, states[from].next + hi + 1, next);
    return next;
}

grammar::state grammar::walk(state from, const char * text, size_t len) {
    for (size_t i = 0; i < len && from != dead; i++) {
        from = step(from, (uint8_t) text[i]);
    }
    return from;
}

// after is the state behind a token, whose text may be what is left of it.
grammar::state grammar::after(state from, llama_token token, const char * text, size_t len) {
    const state by_text = len == 0 ? dead : walk(from, text, len);
    configs     to;
    for (const config & c : states[from].what->list) {
        if (c.node == none && matches(elements[c.pos], token)) {
            close(to, following[c.pos], c.frame);
        }
    }
    if (to.list.empty() && !to.ended) {
        return by_text;
    }
    if (by_text != dead) {
        const configs & also = *states[by_text].what;
        to.ended = to.ended || also.ended;
        to.list.insert(to.list.end(), also.list.begin(), also.list.end());
    }
    return intern(std::move(to));
}

bool grammar::fits(llama_token token) {
    if (asleep) {
        return true;
    }
    if (std::find(trie.ends.begin(), trie.ends.end(), token) != trie.ends.end()) {
        return states[now].what->ended;
    }
    const std::string & text = trie.texts[token];
    return after(now, token, text.data(), text.size()) != dead;
}

bool grammar::allowed(std::vector<llama_token> & tokens, size_t limit) {
    tokens.clear();
    if (asleep || (states[now].many && limit < trie.texts.size())) {
        return false;
    }
    if (states[now].what->ended) {
        tokens = trie.ends;
    }
    bool by_token = false;
    for (const config & c : states[now].what->list) {
        by_token = by_token || c.node == none;
    }
    if (by_token) {
        for (llama_token t = 0; t < (llama_token) trie.texts.size(); t++) {
            for (const config & c : states[now].what->list) {
                if (c.node == none && matches(elements[c.pos], t)) {
                    tokens.push_back(t);
                    break;
                }
            }
        }
    }
    path.assign(1, now);
    for (int32_t i = 0; i < (int32_t) trie.nodes.size() && tokens.size() <= limit;) {
        const token_trie::node & n = trie.nodes[i];
        path.resize(n.depth + 1);
        const state next = step(path.back(), n.byte);
        if (next == dead) {
            i = n.end;
            continue;
        }
        path.push_back(next);
        tokens.insert(tokens.end(), trie.tokens.begin() + n.first, trie.tokens.begin() + n.last);
        i++;
        forget_if_many(path);
    }
    now = path.front();
    if (tokens.size() > limit) {
        states[now].many = true;
        return false;
    }
    if (by_token) {
        std::sort(tokens.begin(), tokens.end());
        tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    }
    return true;
}

void grammar::accept(llama_token token) {
    if (asleep) {
        listen(token);
    } else if (std::find(trie.ends.begin(), trie.ends.end(), token) == trie.ends.end()) {
        follow(token, trie.texts[token].data(), trie.texts[token].size());
    }
}

// follow goes on behind a token, or behind the last bytes of one.
void grammar::follow(llama_token token, const char * text, size_t len) {
    now = after(now, token, text, len);
    if (now == dead) {
        throw std::runtime_error("the grammar does not allow what was written");
    }
    std::vector<state> keep = {now};
    forget_if_many(keep);
    now = keep.front();
}

// listen waits for a trigger, and replays from where it began.
void grammar::listen(llama_token token) {
    const std::string & text = trie.texts[token];
    if (std::find(wake.tokens.begin(), wake.tokens.end(), token) != wake.tokens.end()) {
        asleep = false;
        return follow(token, text.data(), text.size());
    }
    heard += text;
    heard_tokens.emplace_back(token, heard.size());
    size_t start = std::string::npos, longest = wake_patterns.empty() ? 0 : pattern_window;
    for (const std::string & word : wake.words) {
        start   = std::min(start, heard.find(word));
        longest = std::max(longest, word.size());
    }
    for (const auto & p : wake_patterns) {
        if (!missed || p.pattern.compare(0, 1, "^") != 0) {
            start = std::min(start, p.find(heard));
        }
    }
    if (start != std::string::npos) {
        asleep = false;
        size_t from = 0;
        for (const auto & [t, end] : heard_tokens) {
            if (end > start) {
                from = std::max(from, start);
                follow(t, heard.data() + from, end - from);
            }
            from = end;
        }
        return;
    }
    // What cannot be of a trigger any more is dropped by whole tokens.
    size_t done = 0, tokens = 0;
    for (const auto & [t, end] : heard_tokens) {
        if (end + longest > heard.size()) {
            break;
        }
        done = end;
        tokens++;
    }
    missed = missed || done > 0;
    heard.erase(0, done);
    heard_tokens.erase(heard_tokens.begin(), heard_tokens.begin() + tokens);
    for (auto & each : heard_tokens) {
        each.second -= done;
    }
}

void grammar::forget_if_many(std::vector<state> & keep) {
    if (states.size() > max_states || known > max_known) {
        forget(keep);
    }
}

// forget drops all states and frames but those that the kept ones need.
void grammar::forget(std::vector<state> & keep) {
    const auto old_states = std::move(states);
    const auto old_ids    = std::move(state_ids);
    const auto old_frames = std::move(frames);
    states.clear();
    state_ids.clear();
    frames.clear();
    frame_ids.clear();
    known = 0;
    std::vector<int32_t> moved(old_frames.size(), unknown);
    const auto move = [&](int32_t f) {
        // Parents come first: the chain is walked up, then down.
        std::vector<int32_t> chain;
        for (; f != none && moved[f] == unknown; f = old_frames[f].parent) {
            chain.push_back(f);
        }
        int32_t to = f == none ? none : moved[f];
        for (; !chain.empty(); chain.pop_back()) {
            to = moved[chain.back()] = intern_frame(old_frames[chain.back()].pos, to);
        }
        return to;
    };
    for (state & s : keep) {
        configs c = *old_states[s].what;
        for (config & each : c.list) {
            each.frame = each.frame == none ? none : move(each.frame);
        }
        s = intern(std::move(c));
    }
}
