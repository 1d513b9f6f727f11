// A parse of a growing text: llama.cpp's grammars of answers (PEG, common/peg-parser.h),
// executed so that each addition costs what is new and not what is there.
//
// llama.cpp's executor reads the whole text each time. This one keeps the state of every
// parser that more text may still change, and for the others only what they contributed
// to the syntax tree. It is exact because
//
//   - the result of a parser depends on the parser, its start and the text, and on nothing
//     else: PEG has no context. One that has not looked at the end of the text (it is
//     *settled*) is the same for every longer text;
//   - leaves are executed by llama.cpp's own code. Those that read far (until, string,
//     characters, space) treat each position alike, so they go on where they stopped;
//   - only sequence, choice, repetition and lookahead are executed here. They try what
//     llama.cpp tries, in its order. A settled result is taken over, an unsettled one is
//     brought up to date, one at another start is made anew.
//
// chat_parse_test.go compares it with llama.cpp's executor behind every byte.
#pragma once

#include "peg-parser.h"

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

// peg_node is a node of the syntax tree, of a rule or of a tag.
struct peg_node {
    const std::string *                  rule = nullptr;
    const std::string *                  tag  = nullptr;
    size_t                               start = 0, end = 0;
    bool                                 partial = false;
    std::vector<common_peg_invalid_utf8> invalid;
    std::vector<peg_node>                children;
};

// peg_state is one parser at one place.
struct peg_state {
    common_peg_parser_id         id    = 0;
    size_t                       start = 0;
    size_t                       end   = 0;
    common_peg_parse_result_type type  = COMMON_PEG_PARSE_RESULT_NEED_MORE_INPUT;
    bool                         settled = false;  // no text that follows changes it
    bool                         fresh   = true;   // not executed yet

    // A sequence's or repetition's children that succeeded and are settled: how many, where
    // the last ends, and what they contributed. A choice's options that are settled failures.
    size_t                               done = 0;
    size_t                               pos  = 0;
    std::vector<peg_node>                nodes;
    std::vector<common_peg_invalid_utf8> invalid;  // of these; a leaf's own

    // The children after these, and those of them that the result is made of.
    std::vector<std::unique_ptr<peg_state>> open;
    size_t                                  from = 0, to = 0;

    bool failed() const { return type == COMMON_PEG_PARSE_RESULT_FAIL; }
    bool needs_more() const { return type == COMMON_PEG_PARSE_RESULT_NEED_MORE_INPUT; }
};

// peg_parse parses a text that grows. Its arena must outlive it.
class peg_parse {
  public:
    // With rules, the tree has nodes of rules too; without, only of tags.
    peg_parse(const common_peg_arena & arena, bool rules);

    // append adds to the text and brings the parse up to date.
    void append(const std::string & text);

    const std::string & text() const { return context.input; }
    bool                failed() const { return root->failed(); }
    bool                settled() const { return root->settled; }

    // tree returns the syntax tree, as nodes of an arena.
    common_peg_parse_result tree(common_peg_ast_arena & ast) const;

    // tail returns the states from the root to the parser that reads at the end of the text.
    std::vector<const peg_state *> tail() const;

    // grew returns the leaf that was all that the last append changed, by going on reading;
    // nullptr when more changed.
    const peg_state * grew() const { return changes == 0 && grown.size() == 1 ? grown[0] : nullptr; }

    const common_peg_parser_variant & parser(const peg_state & s) const { return arena.get(s.id); }

  private:
    peg_state & child(peg_state & s, size_t i, common_peg_parser_id id, size_t start);
    void        advance(peg_state & s);
    void        run(peg_state & s, const common_peg_sequence_parser & p);
    void        run(peg_state & s, const common_peg_choice_parser & p);
    void        run(peg_state & s, const common_peg_repetition_parser & p);
    void        run_only_child(peg_state & s, common_peg_parser_id id);
    void        look_ahead(peg_state & s, common_peg_parser_id id, bool negated);
    void        run_leaf(peg_state & s, const common_peg_until_parser & p);
    void        run_leaf(peg_state & s, const common_peg_chars_parser & p);
    void        run_string(peg_state & s);
    void        run_space(peg_state & s);
    void        run_short_leaf(peg_state & s, bool settled_success);
    void        set(peg_state & s, common_peg_parse_result_type type, size_t end, bool settled);
    bool        settle_first(peg_state & s);
    bool        is_node(const peg_state & s) const;
    peg_node    node(const peg_state & s) const;
    void        take(peg_state & s, std::vector<peg_node> & nodes) const;
    void        build(const peg_state & s, common_peg_ast_arena & ast, std::vector<common_peg_ast_id> & ids) const;
    void        collect_invalid(const peg_state & s, std::vector<common_peg_invalid_utf8> & to) const;
    void        went_on(peg_state & s, size_t end);

    const common_peg_arena &      arena;
    const bool                    rules;
    common_peg_parse_context      context;
    std::unique_ptr<peg_state>    root;
    size_t                        changes = 0;  // of the last append, other than leaves that go on
    std::vector<const peg_state *> grown;       // leaves that went on
    int                           ahead = 0;    // within how many lookaheads
};
