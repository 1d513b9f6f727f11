#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"

#include "peg_parse.h"

#include "chat-peg-parser.h"
#include "chat.h"
#include "json.h"

#include <cctype>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

struct serve_parser {
    std::shared_ptr<const common_chat_parser_params> params;
};

namespace {

using builder = common_chat_peg_builder;

// field is what an answer's text at its end goes on with.
// Other is what is not what is written, or not for certain.
enum class field { none, content, reasoning, raw_arguments, escaped_arguments, other };

bool is_space(char c) { return std::isspace((unsigned char) c) != 0; }

// escaped returns a text as the inside of a JSON string.
std::string escaped(const std::string & text) {
    const std::string quoted = common_json(text).dump();
    return quoted.substr(1, quoted.size() - 2);
}

bool ends_with(const std::string & text, std::string_view end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// call_delta is what is new of a call. Only its first one has a name.
struct call_delta {
    size_t      index;
    std::string id, name, arguments;
};

struct delta {
    std::string             content, reasoning;
    std::vector<call_delta> calls;

    bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
};

char * to_json(const delta & d) {
    common_json calls = common_json::array();
    for (const call_delta & c : d.calls) {
        common_json o  = common_json::object();
        o["index"]     = c.index;
        o["id"]        = c.id;
        o["name"]      = c.name;
        o["arguments"] = c.arguments;
        calls.push_back(o);
    }
    common_json r   = common_json::object();
    r["content"]    = d.content;
    r["reasoning"]  = d.reasoning;
    r["tool_calls"] = calls;
    return copy_string(r.dump_safe());
}

// extend makes a text that was sent what it is now, and returns what is new of it. What was sent is not taken
// back: a text that is shorter now, or another one, has nothing new.
std::string extend(std::string & sent, const std::string & now) {
    if (now.size() <= sent.size() || now.compare(0, sent.size(), sent) != 0) {
        return "";
    }
    std::string added = now.substr(sent.size());
    sent += added;
    return added;
}

}  // namespace

// serve_answer parses one answer. Most additions only make the text longer in which the
// answer is, the content or a string in a call's arguments: then what is new of the answer
// is what is new of the text. Where the structure changed, the message is made again of
// the syntax tree, by llama.cpp's own code, and compared with what was sent.
struct serve_answer {
    explicit serve_answer(std::shared_ptr<const common_chat_parser_params> p) :
        params(std::move(p)),
        gemma4(params->format == COMMON_CHAT_FORMAT_PEG_GEMMA4),
        minimax(params->format == COMMON_CHAT_FORMAT_PEG_MINIMAX_M3),
        own_mapper(gemma4 || minimax),
        parse(params->parser, own_mapper) {
        parse.append(params->generation_prompt);
    }

    delta append(const std::string & added) {
        text += added;
        if (parse.failed() && parse.settled()) {
            return {};
        }
        parse.append(added);
        const peg_state * leaf = parse.grew();
        if (leaf != nullptr && leaf == tail && !broken(*leaf)) {
            return go_on();
        }
        tail = nullptr;
        if (parse.failed()) {
            return {};
        }
        const common_chat_msg now = message();
        delta d = compare(now);
        find_tail(now);
        return d;
    }

    // finish parses the whole answer once more, by llama.cpp alone. It throws if the answer has not the format.
    delta finish(const std::string & added) {
        text += added;
        return compare(common_chat_parse(text, false, *params));
    }

  private:
    bool broken(const peg_state & leaf) const { return !leaf.invalid.empty(); }

    common_chat_msg message() const {
        common_peg_ast_arena          ast;
        const common_peg_parse_result tree = parse.tree(ast);
        common_chat_msg               msg;
        msg.role = "assistant";
        switch (params->format) {
            case COMMON_CHAT_FORMAT_PEG_GEMMA4: common_chat_peg_gemma4_mapper(msg).from_ast(ast, tree); break;
            case COMMON_CHAT_FORMAT_PEG_MINIMAX_M3: common_chat_peg_minimax_m3_mapper(msg).from_ast(ast, tree); break;
            default: common_chat_peg_mapper(msg).from_ast(ast, tree);
        }
        return msg;
    }

    delta compare(const common_chat_msg & now) {
        delta d;
        d.content   = extend(sent.content, now.content);
        d.reasoning = extend(sent.reasoning_content, now.reasoning_content);
        for (size_t i = 0; i < now.tool_calls.size(); i++) {
            if (i == sent.tool_calls.size()) {
                sent.tool_calls.emplace_back();
            }
            auto &       was = sent.tool_calls[i];
            const auto & is  = now.tool_calls[i];
            call_delta   c   = {i, "", "", extend(was.arguments, is.arguments)};
            if (was.name.empty()) {
                c.id   = was.id   = is.id;
                c.name = was.name = is.name;
            }
            if (!c.name.empty() || !c.arguments.empty()) {
                d.calls.push_back(std::move(c));
            }
        }
        return d;
    }

    // find_tail finds out what the text at the end is part of, and makes sure that the message ends with it.
    void find_tail(const common_chat_msg & now) {
        const auto path = parse.tail();
        const auto & leaf = *path.back();
        const auto & kind = parse.parser(leaf);
        const bool until  = std::holds_alternative<common_peg_until_parser>(kind);
        const bool string = std::holds_alternative<common_peg_string_parser>(kind);
        if ((!until && !string) || !leaf.needs_more() || broken(leaf)) {
            return;
        }

        goes_on    = field::none;
        tail_start = leaf.start;
        for (const peg_state * s : path) {
            const auto & p = parse.parser(*s);
            if (std::holds_alternative<common_peg_atomic_parser>(p)) {
                break;  // no part of the tree until it is whole
            }
            const field f = field_of(p, s->start);
            if (f == field::none) {
                continue;
            }
            if (goes_on != field::none && !(own_mapper && goes_on == field::other)) {
                return;
            }
            goes_on    = f;
            tail_start = s->start;
        }

        tail_sent = leaf.end;
        if (goes_on == field::raw_arguments) {
            // Of arguments in JSON llama.cpp leaves out white space at their end.
            while (tail_sent > tail_start && is_space(parse.text()[tail_sent - 1])) {
                tail_sent--;
            }
        }
        const std::string end = parse.text().substr(tail_start, tail_sent - tail_start);
        if (message_ends(now, goes_on == field::escaped_arguments ? escaped(end) : end)) {
            tail = &leaf;
        }
    }

    // message_ends reports whether the field that the text goes on in ends with this text, and was all returned.
    bool message_ends(const common_chat_msg & now, const std::string & end) const {
        switch (goes_on) {
            case field::none: return true;
            case field::other: return false;
            case field::content: return now.content == sent.content && ends_with(now.content, end);
            case field::reasoning:
                // Of white space alone llama.cpp makes no reasoning.
                return !now.reasoning_content.empty() && now.reasoning_content == sent.reasoning_content &&
                       ends_with(now.reasoning_content, end);
            default: break;
        }
        if (end.empty() || now.tool_calls.empty() || now.tool_calls.size() != sent.tool_calls.size()) {
            return false;
        }
        const std::string & arguments = now.tool_calls.back().arguments;
        return arguments == sent.tool_calls.back().arguments && ends_with(arguments, end);
    }

    // field_of says what the text of a node becomes, if it is any.
    field field_of(const common_peg_parser_variant & parser, size_t start) const {
        if (const auto * rule = std::get_if<common_peg_rule_parser>(&parser)) {
            return gemma4 && rule->name == "gemma4-string-content" ? field::escaped_arguments : field::none;
        }
        const auto * tag = std::get_if<common_peg_tag_parser>(&parser);
        if (tag == nullptr) {
            return field::none;
        }

        const std::string & t = tag->tag;
        if (t == builder::CONTENT) {
            return field::content;
        }
        if (t == builder::REASONING) {
            return field::reasoning;
        }
        if (own_mapper) {
            // All within a call is written anew, but strings as they are.
            const bool string = minimax && t == builder::TOOL_ARG_STRING_VALUE;
            return string ? field::escaped_arguments : t == builder::TOOL ? field::other : field::none;
        }
        if (t == builder::TOOL_ARG_STRING_VALUE) {
            return field::escaped_arguments;
        }
        if (t == builder::TOOL_ARGS) {
            return parse.text()[start] == '{' ? field::raw_arguments : field::none;
        }
        const bool other = t == builder::TOOL_ID || t == builder::TOOL_NAME || t == builder::TOOL_ARG_NAME ||
                           t == builder::TOOL_ARG_VALUE;
        return other ? field::other : field::none;
    }

    // go_on returns what is new of the text at the end.
    delta go_on() {
        delta d;
        const std::string & input = parse.text();
        size_t end = tail->end;
        if (goes_on == field::raw_arguments) {
            while (end > tail_sent && is_space(input[end - 1])) {
                end--;
            }
        }
        std::string added = input.substr(tail_sent, end - tail_sent);
        if (goes_on == field::escaped_arguments) {
            added = escaped(added);
        }
        tail_sent = end;
        switch (goes_on) {
            case field::none:
            case field::other: break;
            case field::content: sent.content += added; d.content = std::move(added); break;
            case field::reasoning: sent.reasoning_content += added; d.reasoning = std::move(added); break;
            case field::raw_arguments:
            case field::escaped_arguments:
                sent.tool_calls.back().arguments += added;
                if (!added.empty()) {
                    d.calls.push_back({sent.tool_calls.size() - 1, "", "", std::move(added)});
                }
        }
        return d;
    }

    std::shared_ptr<const common_chat_parser_params> params;
    const bool      gemma4, minimax;
    const bool      own_mapper;  // of the format, which reads rules, too
    peg_parse       parse;
    std::string     text;  // without the generation prompt
    common_chat_msg sent;  // the sum of what was returned

    // The leaf that reads at the end of the text, if what it reads next is known to become part of a field as it is.
    const peg_state * tail       = nullptr;
    field             goes_on    = field::none;
    size_t            tail_start = 0;  // of the node that the field has the text of
    size_t            tail_sent  = 0;  // up to where the text was returned
};

extern "C" {

serve_parser * serve_parser_new(const char * spec, serve_error * err) {
    return guard(err, [&] {
        const common_json j      = common_json::parse(spec);
        auto              params = std::make_shared<common_chat_parser_params>();
        params->format            = (common_chat_format) j.at("format").get<int32_t>();
        params->reasoning_format  = COMMON_REASONING_FORMAT_AUTO;
        params->generation_prompt = j.value("generation_prompt", "");
        params->is_continuation   = j.value("continuation", false);
        const std::string arena   = j.value("arena", "");
        if (arena.empty()) {
            params->parser = build_chat_peg_parser([](builder & p) { return p.content(p.rest()) + p.end(); });
        } else {
            params->parser.load(arena);
        }
        return new serve_parser{std::move(params)};
    });
}

void serve_parser_free(serve_parser * p) { delete p; }

serve_answer * serve_answer_new(const serve_parser * p, serve_error * err) {
    return guard(err, [&] { return new serve_answer(p->params); });
}

void serve_answer_free(serve_answer * a) { delete a; }

char * serve_answer_append(serve_answer * a, const char * text, size_t len, bool last, serve_error * err) {
    return guard(err, [&]() -> char * {
        const std::string added(text, len);
        const delta       d = last ? a->finish(added) : a->append(added);
        return d.empty() ? nullptr : to_json(d);
    });
}

}  // extern "C"
