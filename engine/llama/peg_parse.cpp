#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "peg_parse.h"

#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>
#include <variant>

namespace {

constexpr auto success   = COMMON_PEG_PARSE_RESULT_SUCCESS;
constexpr auto fail      = COMMON_PEG_PARSE_RESULT_FAIL;
constexpr auto need_more = COMMON_PEG_PARSE_RESULT_NEED_MORE_INPUT;

// The longest character of UTF-8: what is that far from the end has been read whole.
constexpr size_t longest_character = 4;

// only_child returns the parser that another one is nothing but, or is a node of, or the invalid one.
common_peg_parser_id only_child(const common_peg_arena & arena, const common_peg_parser_variant & parser) {
    return std::visit([&](const auto & p) -> common_peg_parser_id {
        using T = std::decay_t<decltype(p)>;
        if constexpr (std::is_same_v<T, common_peg_schema_parser> || std::is_same_v<T, common_peg_gbnf_parser> ||
                      std::is_same_v<T, common_peg_ac_parser> || std::is_same_v<T, common_peg_atomic_parser> ||
                      std::is_same_v<T, common_peg_rule_parser> || std::is_same_v<T, common_peg_tag_parser>) {
            return p.child;
        } else if constexpr (std::is_same_v<T, common_peg_ref_parser>) {
            return arena.get_rule(p.name);
        } else {
            return COMMON_PEG_INVALID_PARSER_ID;
        }
    }, parser);
}

common_peg_ast_id add_node(common_peg_ast_arena & ast, const peg_node & n, const std::string & text,
                           std::vector<common_peg_ast_id> children) {
    static const std::string none;
    std::string_view         view;
    if (n.start < text.size()) {
        view = std::string_view(text).substr(n.start, n.end - n.start);
    }
    return ast.add_node(n.rule ? *n.rule : none, n.tag ? *n.tag : none, n.start, n.end, view, std::move(children),
                        n.partial, n.invalid);
}

common_peg_ast_id add_nodes(common_peg_ast_arena & ast, const peg_node & n, const std::string & text) {
    std::vector<common_peg_ast_id> children;
    for (const peg_node & c : n.children) {
        children.push_back(add_nodes(ast, c, text));
    }
    return add_node(ast, n, text, std::move(children));
}

}  // namespace

peg_parse::peg_parse(const common_peg_arena & arena, bool rules) :
    arena(arena), rules(rules), context(COMMON_PEG_PARSE_FLAG_LENIENT), root(std::make_unique<peg_state>()) {
    root->id = arena.root();
}

void peg_parse::append(const std::string & text) {
    context.input += text;
    changes = 0;
    grown.clear();
    advance(*root);
}

common_peg_parse_result peg_parse::tree(common_peg_ast_arena & ast) const {
    common_peg_parse_result result(root->type, root->start, root->end);
    build(*root, ast, result.nodes);
    return result;
}

std::vector<const peg_state *> peg_parse::tail() const {
    std::vector<const peg_state *> path = {root.get()};
    while (path.back()->to > path.back()->from) {
        path.push_back(path.back()->open[path.back()->to - 1].get());
    }
    return path;
}

// set gives a state its result.
void peg_parse::set(peg_state & s, common_peg_parse_result_type type, size_t end, bool settled) {
    if (s.fresh || s.type != type || s.settled != settled) {
        changes++;
    }
    s.fresh   = false;
    s.type    = type;
    s.end     = end;
    s.settled = settled;
    if (settled && s.failed()) {
        s.nodes.clear();
        s.invalid.clear();
        s.open.clear();
        s.from = s.to = 0;
    }
}

// child returns the i-th open child, as it was if it began there already.
peg_state & peg_parse::child(peg_state & s, size_t i, common_peg_parser_id id, size_t start) {
    if (i < s.open.size() && (s.open[i]->id != id || s.open[i]->start != start)) {
        s.open.resize(i);
    }
    if (i == s.open.size()) {
        changes++;
        s.open.push_back(std::make_unique<peg_state>());
        s.open[i]->id    = id;
        s.open[i]->start = start;
        s.open[i]->end   = start;
    }
    advance(*s.open[i]);
    return *s.open[i];
}

// settle_first takes over the first open child, if it is settled.
bool peg_parse::settle_first(peg_state & s) {
    peg_state & first = *s.open.front();
    if (!first.settled) {
        return false;
    }
    take(first, s.nodes);
    collect_invalid(first, s.invalid);
    s.pos = first.end;
    s.done++;
    s.open.erase(s.open.begin());
    return true;
}

void peg_parse::advance(peg_state & s) {
    if (s.settled) {
        return;
    }
    if (s.fresh) {
        s.pos = s.start;
    }
    const auto & parser = arena.get(s.id);
    if (const auto only = only_child(arena, parser); only != COMMON_PEG_INVALID_PARSER_ID) {
        return run_only_child(s, only);
    }
    std::visit([&](const auto & p) {
        using T = std::decay_t<decltype(p)>;
        if constexpr (std::is_same_v<T, common_peg_sequence_parser> || std::is_same_v<T, common_peg_choice_parser> ||
                      std::is_same_v<T, common_peg_repetition_parser>) {
            run(s, p);
        } else if constexpr (std::is_same_v<T, common_peg_and_parser>) {
            look_ahead(s, p.child, false);
        } else if constexpr (std::is_same_v<T, common_peg_not_parser>) {
            look_ahead(s, p.child, true);
        } else if constexpr (std::is_same_v<T, common_peg_until_parser> || std::is_same_v<T, common_peg_chars_parser>) {
            run_leaf(s, p);
        } else if constexpr (std::is_same_v<T, common_peg_string_parser>) {
            run_string(s);
        } else if constexpr (std::is_same_v<T, common_peg_space_parser>) {
            run_space(s);
        } else {
            // The end is where nothing follows, which more text may change; the others read what they need.
            run_short_leaf(s, !std::is_same_v<T, common_peg_end_parser>);
        }
    }, parser);
}

void peg_parse::run_only_child(peg_state & s, common_peg_parser_id id) {
    const peg_state & c = child(s, 0, id, s.start);
    s.to = 1;
    set(s, c.type, c.end, c.settled);
}

void peg_parse::run(peg_state & s, const common_peg_sequence_parser & p) {
    size_t pos = s.pos;
    s.to     = 0;
    while (s.done + s.to < p.children.size()) {
        const peg_state & c = child(s, s.to, p.children[s.done + s.to], pos);
        if (c.failed()) {
            const bool settled = c.settled && s.to == 0;
            const auto end     = c.end;
            s.to             = 0;
            return set(s, fail, end, settled);
        }

        pos = c.end;
        if (c.needs_more()) {
            s.to++;
            return set(s, need_more, pos, false);
        }
        if (s.to > 0 || !settle_first(s)) {
            s.to++;
        }
    }
    set(s, success, pos, s.to == 0);
}

void peg_parse::run(peg_state & s, const common_peg_choice_parser & p) {
    s.from = s.to = 0;
    // Options that failed only for now stay open, before the one that did not.
    for (size_t i = 0; s.done + i < p.children.size();) {
        const peg_state & c = child(s, i, p.children[s.done + i], s.start);
        if (!c.failed()) {
            s.from = i;
            s.to   = i + 1;
            return set(s, c.type, c.end, c.settled && i == 0);
        }
        if (i == 0 && c.settled) {
            s.open.erase(s.open.begin());
            s.done++;
        } else {
            i++;
        }
    }
    set(s, fail, s.start, s.open.empty());
}

void peg_parse::run(peg_state & s, const common_peg_repetition_parser & p) {
    size_t pos     = s.pos;
    bool   settled = true;
    s.to         = 0;
    const auto count = [&] { return s.done + s.to; };
    while (p.max_count == -1 || count() < (size_t) p.max_count) {
        if (pos >= context.input.size()) {
            settled = false;
            break;
        }

        const peg_state & c = child(s, s.to, p.child, pos);
        if (c.needs_more()) {
            s.to++;
            return set(s, need_more, c.end, false);
        }
        if (c.failed() || c.end == pos) {  // llama.cpp leaves out a child that read nothing
            settled = c.settled;
            break;
        }

        pos = c.end;
        if (s.to > 0 || !settle_first(s)) {
            s.to++;
        }
    }
    settled = settled && s.to == 0;

    if (p.min_count > 0 && count() < (size_t) p.min_count) {
        if (pos >= context.input.size()) {
            return set(s, need_more, pos, false);
        }
        s.to = 0;
        return set(s, fail, pos, settled);
    }
    set(s, success, pos, settled);
}

void peg_parse::look_ahead(peg_state & s, common_peg_parser_id id, bool negated) {
    ahead++;
    const peg_state & c = child(s, 0, id, s.start);
    ahead--;
    auto type = c.type;
    if (negated && !c.needs_more()) {
        type = c.failed() ? success : fail;
    }
    s.to = 0;
    set(s, type, s.start, c.settled);
}

// went_on notes that a leaf has read on. Within a lookahead it is no part of the tree.
void peg_parse::went_on(peg_state & s, size_t end) {
    if (end > s.end) {
        changes += ahead;
        grown.push_back(&s);
    }
}

void peg_parse::run_leaf(peg_state & s, const common_peg_until_parser & p) {
    size_t longest = longest_character;
    for (const std::string & d : p.delimiters) {
        longest = std::max(longest, d.size());
    }

    // What it has read is no beginning of a delimiter.
    const bool fresh = s.fresh;
    const auto r     = arena.parse(s.id, context, fresh ? s.start : s.end);
    if (!r.invalid_utf8.empty()) {
        changes++;
        s.invalid.insert(s.invalid.end(), r.invalid_utf8.begin(), r.invalid_utf8.end());
    }
    if (!fresh) {
        went_on(s, r.end);
    }
    // It succeeds before what may only be the beginning of a delimiter, too.
    const bool settled = r.success() && context.input.size() >= r.end + longest + longest_character;
    set(s, r.type, r.end, settled);
}

void peg_parse::run_string(peg_state & s) {
    const bool fresh = s.fresh;
    const auto r     = arena.parse(s.id, context, fresh ? s.start : s.end);
    if (r.fail()) {
        return set(s, fail, s.start, true);
    }
    if (!fresh) {
        went_on(s, r.end);
    }
    set(s, r.type, r.end, r.success());
}

void peg_parse::run_leaf(peg_state & s, const common_peg_chars_parser & p) {
    const auto whole = [&](size_t end) { return context.input.size() >= end + longest_character; };
    if (s.fresh || s.type != success || p.max_count != -1 || p.min_count > 1) {
        const auto r = arena.parse(s.id, context, s.start);
        changes += r.end != s.end;
        return set(s, r.type, r.end, !r.need_more_input() && whole(r.end));
    }

    // It has enough characters, and only reads on.
    const auto   r   = arena.parse(s.id, context, s.end);
    const size_t end = r.success() ? r.end : s.end;
    changes += end != s.end;
    set(s, success, end, whole(end));
}

void peg_parse::run_space(peg_state & s) {
    const auto r = arena.parse(s.id, context, s.fresh ? s.start : s.end);
    changes += r.end != s.end;
    set(s, success, r.end, r.end < context.input.size());
}

void peg_parse::run_short_leaf(peg_state & s, bool settled_success) {
    const auto r = arena.parse(s.id, context, s.start);
    changes += r.end != s.end;
    set(s, r.type, r.end, r.fail() || (r.success() && settled_success));
}

bool peg_parse::is_node(const peg_state & s) const {
    const auto & parser = arena.get(s.id);
    return std::holds_alternative<common_peg_tag_parser>(parser) ||
           (rules && std::holds_alternative<common_peg_rule_parser>(parser));
}

// node returns a state's node without its children.
peg_node peg_parse::node(const peg_state & s) const {
    const auto & parser = arena.get(s.id);
    const auto * rule   = std::get_if<common_peg_rule_parser>(&parser);
    const auto * tag    = std::get_if<common_peg_tag_parser>(&parser);
    peg_node n;
    n.rule    = rule != nullptr ? &rule->name : nullptr;
    n.tag     = tag != nullptr ? &tag->tag : nullptr;
    n.start   = s.start;
    n.end     = s.end;
    n.partial = s.needs_more();
    collect_invalid(s, n.invalid);
    return n;
}

// take moves the nodes of a settled state to its parent.
void peg_parse::take(peg_state & s, std::vector<peg_node> & nodes) const {
    if (is_node(s)) {
        peg_node n = node(s);
        take(*s.open[0], n.children);
        nodes.push_back(std::move(n));
        return;
    }
    std::move(s.nodes.begin(), s.nodes.end(), std::back_inserter(nodes));
    for (size_t i = s.from; i < s.to; i++) {
        take(*s.open[i], nodes);
    }
}

// build adds a state's nodes to a tree as it is now.
void peg_parse::build(const peg_state & s, common_peg_ast_arena & ast, std::vector<common_peg_ast_id> & ids) const {
    if (s.failed() || (s.needs_more() && std::holds_alternative<common_peg_atomic_parser>(arena.get(s.id)))) {
        return;
    }
    if (is_node(s)) {
        std::vector<common_peg_ast_id> children;
        build(*s.open[0], ast, children);
        ids.push_back(add_node(ast, node(s), context.input, std::move(children)));
        return;
    }
    for (const peg_node & n : s.nodes) {
        ids.push_back(add_nodes(ast, n, context.input));
    }
    for (size_t i = s.from; i < s.to; i++) {
        build(*s.open[i], ast, ids);
    }
}

void peg_parse::collect_invalid(const peg_state & s, std::vector<common_peg_invalid_utf8> & to) const {
    to.insert(to.end(), s.invalid.begin(), s.invalid.end());
    for (size_t i = s.from; i < s.to; i++) {
        collect_invalid(*s.open[i], to);
    }
}
