#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "grammar.h"

#include <stdexcept>

// Reading the text of a grammar. llama.cpp's parser makes the rules; what llama.cpp does with them next is not called:
// its search for left recursion follows each path through the rules, and there may be 2^n of n rules, and its
// messages quote the grammar, which is a client's.

namespace {

// Groups within groups: the parser calls itself for each.
constexpr int max_depth = 1000;
// Elements of all rules, which is 32 MB of them.
constexpr size_t max_elements = 4 << 20;

// quoted_end is where a literal or a class ends that begins at a place.
size_t quoted_end(const std::string & text, size_t at) {
    const char end = text[at] == '"' ? '"' : ']';
    for (at++; at < text.size() && text[at] != end; at++) {
        at += text[at] == '\\';
    }
    return at;
}

// check_depth throws if groups are nested too deeply.
void check_depth(const std::string & text) {
    int depth = 0;
    for (size_t i = 0; i < text.size(); i++) {
        switch (text[i]) {
            case '"':
            case '[':
                i = quoted_end(text, i);
                break;
            case '(':
                depth++;
                break;
            case ')':
                depth--;
                break;
        }
        if (depth > max_depth) {
            throw std::runtime_error("the grammar has too many groups within groups");
        }
    }
}

// parse fills a parser. Its own parse method would print the grammar when it fails.
void parse(llama_grammar_parser & parser, const std::string & text) {
    try {
        for (const char * pos = text.c_str(); *pos != 0;) {
            pos = parser.parse_rule(pos);
        }
    } catch (const std::exception &) {
        throw std::runtime_error("failed to parse grammar");  // the exception's own text has the grammar in it
    }
    size_t elements = 0;
    for (const auto & rule : parser.rules) {
        elements += rule.size();
        if (rule.empty() || elements > max_elements) {
            throw std::runtime_error(rule.empty() ? "the grammar has an undefined rule" : "the grammar is too large");
        }
        for (const llama_grammar_element & e : rule) {
            if (e.type == LLAMA_GRETYPE_RULE_REF && e.value >= parser.rules.size()) {
                throw std::runtime_error("the grammar has an undefined rule");
            }
        }
    }
}

// leftmost lists the rules that a rule may begin with: the first element of each alternative, and what follows rules
// with an empty alternative.
std::vector<uint32_t> leftmost(const llama_grammar_rule & rule, const std::vector<bool> & empty) {
    std::vector<uint32_t> list;
    bool                  begins = true;
    for (const llama_grammar_element & e : rule) {
        if (ends_sequence(e)) {
            begins = true;
        } else if (begins && e.type == LLAMA_GRETYPE_RULE_REF) {
            list.push_back(e.value);
            begins = empty[e.value];
        } else {
            begins = false;
        }
    }
    return list;
}

// check_left_recursion throws if a rule may begin with itself. It looks at each rule once.
void check_left_recursion(const llama_grammar_rules & rules) {
    std::vector<bool> empty(rules.size());
    for (size_t r = 0; r < rules.size(); r++) {
        bool at_start = true;
        for (const llama_grammar_element & e : rules[r]) {
            empty[r] = empty[r] || (at_start && ends_sequence(e));
            at_start = ends_sequence(e);
        }
    }

    enum { unseen, open, done };
    std::vector<int> states(rules.size(), unseen);
    struct visit {
        uint32_t              rule;
        std::vector<uint32_t> next;
    };
    for (uint32_t from = 0; from < rules.size(); from++) {
        if (states[from] != unseen) {
            continue;
        }
        states[from] = open;
        std::vector<visit> path = {{from, leftmost(rules[from], empty)}};
        while (!path.empty()) {
            visit & last = path.back();
            if (last.next.empty()) {
                states[last.rule] = done;
                path.pop_back();
                continue;
            }
            const uint32_t r = last.next.back();
            last.next.pop_back();
            if (states[r] == open) {
                throw std::runtime_error("the grammar has a rule that begins with itself");
            }
            if (states[r] == unseen) {
                states[r] = open;
                path.push_back({r, leftmost(rules[r], empty)});
            }
        }
    }
}

}  // namespace

read_grammar::read_grammar(const llama_vocab * vocab, const std::string & text) {
    check_depth(text);
    llama_grammar_parser parser(vocab);
    parse(parser, text);
    const auto found = parser.symbol_ids.find("root");
    if (found == parser.symbol_ids.end()) {
        throw std::runtime_error("the grammar has no root");
    }
    check_left_recursion(parser.rules);
    rules = std::move(parser.rules);
    root  = found->second;
}
