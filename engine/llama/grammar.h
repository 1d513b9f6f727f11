// Grammars: which tokens may come next. llama.cpp reads the text of a grammar (GBNF);
// what follows is ours. Its own sampler follows each token through each possible stack
// anew; here stacks are interned, steps by a byte are remembered, and the vocabulary is
// a trie, so that tokens that begin alike are followed once.
#pragma once

#include "llama-grammar.h"
#include "llama.h"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

// token_trie is a vocabulary by the bytes of its tokens.
class token_trie {
  public:
    explicit token_trie(const llama_vocab * vocab);

    // Nodes lie in the order of a walk; those under node i are i+1 .. end-1.
    struct node {
        uint8_t  byte;
        uint16_t depth;       // of the byte in the token, from 0
        int32_t  end;
        int32_t  first, last; // the tokens that end here: tokens[first .. last-1]
    };

    std::vector<node>        nodes;
    std::vector<llama_token> tokens;
    std::vector<llama_token> ends;  // tokens that end generation
    std::vector<std::string> texts; // by token; empty for what no text can match
    size_t                   depth = 0; // bytes of the longest token
};

// ends_sequence says whether an element ends one of a rule's alternatives.
inline bool ends_sequence(const llama_grammar_element & e) {
    return e.type == LLAMA_GRETYPE_END || e.type == LLAMA_GRETYPE_ALT;
}

// read_grammar is what the text of a grammar says. Its constructor throws std::runtime_error for a text that is none, and
// never quotes it.
struct read_grammar {
    read_grammar(const llama_vocab * vocab, const std::string & text);

    llama_grammar_rules rules;
    uint32_t            root = 0;  // its index in rules
};

// grammar holds one answer to a grammar. Its methods throw std::runtime_error for a
// grammar that cannot be read or followed.
class grammar {
  public:
    // A lazy grammar sleeps, and allows everything, until a trigger: a token, or a word or
    // a pattern in the text. It then begins where the word did, or the pattern's group.
    struct triggers {
        bool                     lazy = false;
        std::vector<llama_token> tokens;
        std::vector<std::string> words;
        std::vector<std::string> patterns;  // one that begins with ^ means the whole answer's beginning
    };

    grammar(const token_trie & trie, const llama_vocab * vocab, const std::string & text, const triggers & when);

    bool fits(llama_token token);

    // allowed puts the tokens that may come into a list; false when they are more than limit.
    bool allowed(std::vector<llama_token> & tokens, size_t limit);

    void accept(llama_token token);

  private:
    using state = int32_t;
    static constexpr state   dead    = -1;
    static constexpr state   unknown = -2;
    static constexpr int32_t none    = -1;

    // A character class is a small automaton over the bytes of UTF-8: edges by node.
    struct edge {
        uint8_t lo, hi;
        int32_t next;  // a node, or none where the character is whole
        bool    operator<(const edge & o) const { return std::tie(lo, hi, next) < std::tie(o.lo, o.hi, o.next); }
    };
    // A config is one way to go on: within the element at pos, then as frame says.
    struct config {
        int32_t node;  // of the element's character class; none for an element that is a token
        int32_t pos;
        int32_t frame; // what follows when the rule of pos ends; none for the end of all
        bool    operator<(const config & o) const { return std::tie(node, pos, frame) < std::tie(o.node, o.pos, o.frame); }
        bool    operator==(const config & o) const { return std::tie(node, pos, frame) == std::tie(o.node, o.pos, o.frame); }
    };
    struct frame {
        int32_t pos, parent;
    };
    struct configs {
        std::vector<config> list;       // sorted
        bool                ended = false;
        bool operator<(const configs & o) const { return std::tie(ended, list) < std::tie(o.ended, o.list); }
    };
    struct state_data {
        const configs * what;
        bool            many = false;  // allowed once gave up
        state           next[256];
    };

    void    compile(const llama_grammar_rules & rules);
    int32_t intern_node(const std::vector<edge> & edges);
    void    add_range(std::vector<edge> & edges, uint32_t lo, uint32_t hi);
    int32_t tail(uint32_t lo, uint32_t hi, int shift);
    int32_t intern_frame(int32_t pos, int32_t parent);
    void    close(configs & to, int32_t pos, int32_t frame);
    state   intern(configs && c);
    state   step(state from, uint8_t byte);
    state   walk(state from, const char * text, size_t len);
    state   after(state from, llama_token token, const char * text, size_t len);
    void    follow(llama_token token, const char * text, size_t len);
    void    listen(llama_token token);
    void    forget(std::vector<state> & keep);
    void    forget_if_many(std::vector<state> & keep);

    const token_trie &                 trie;
    std::vector<llama_grammar_element> elements;     // of all rules, one after another
    std::vector<int32_t>               rule_starts;  // by rule, in elements
    std::vector<int32_t>               classes;      // by element: the first node of its class
    std::vector<int32_t>               following;    // by element: the one after it
    std::vector<std::vector<edge>>     nodes;
    std::map<std::vector<edge>, int32_t> node_ids;

    std::vector<frame>                     frames;
    std::unordered_map<uint64_t, int32_t>  frame_ids;
    std::vector<state_data>                states;
    std::map<configs, state>               state_ids;
    size_t                                 known = 0;  // configs of all states
    std::set<std::pair<int32_t, int32_t>>  closing;  // what close has seen: a place, and the frame under it
    std::vector<state>                     path;
    state                                  now = dead;

    bool        asleep = false;
    triggers    wake;
    std::vector<llama_grammar_trigger_pattern> wake_patterns;
    std::string heard;           // the end of what came while asleep, in which a trigger may have begun
    bool        missed = false;  // heard is not all of it
    std::vector<std::pair<llama_token, size_t>> heard_tokens;  // and where each token of it ended
};
