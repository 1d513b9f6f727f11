#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "provenance.h"

#include "jinja/runtime.h"
#include "jinja/value.h"

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// As in llama.cpp's chat.cpp, which keeps it to itself. TestTemplatesAreAsHere compares the two.
struct common_chat_templates {
    bool add_bos;
    bool add_eos;
    bool has_explicit_template;  // Model had builtin template or template overridden was specified.
    std::unique_ptr<common_chat_template> template_default;  // always set (defaults to chatml)
    std::unique_ptr<common_chat_template> template_tool_use;
};

namespace {

using jinja::context;
using jinja::statement_ptr;
using jinja::statements;
using jinja::value;

// The variable of a template that says that a rendering is of a chat, and not of one of llama.cpp's examples.
const char * const traced_name = "serve_traced";

// a_text is a rendered text, and what of it is not the template's own.
struct a_text {
    std::string             text;
    std::vector<byte_range> quoted;

    void add_quoted(size_t begin, size_t end) {
        if (begin >= end) {
            return;
        }
        if (!quoted.empty() && quoted.back().end == begin) {
            quoted.back().end = end;
            return;
        }
        quoted.push_back({begin, end});
    }

    void append(const std::string & s, bool own) {
        if (!own) {
            add_quoted(text.size(), text.size() + s.size());
        }
        text += s;
    }

    // part returns the text from begin on and before end.
    a_text part(size_t begin, size_t end) const {
        a_text p{text.substr(begin, end - begin), {}};
        for (const byte_range & q : quoted) {
            p.add_quoted(std::max(q.begin, begin) - begin, std::max(std::min(q.end, end), begin) - begin);
        }
        return p;
    }

    void append(const a_text & other) {
        for (const byte_range & q : other.quoted) {
            add_quoted(text.size() + q.begin, text.size() + q.end);
        }
        text += other.text;
    }
};

// recording collects what templates render on this thread.
struct recording {
    size_t              wanted;  // renderings; no more are kept
    std::vector<a_text> renderings;
};

thread_local recording * current = nullptr;

struct recording_scope {
    explicit recording_scope(recording * r) { current = r; }
    ~recording_scope() { current = nullptr; }
    recording_scope(const recording_scope &) = delete;
    recording_scope & operator=(const recording_scope &) = delete;
};

// mark says of all of a value that the template has written it, or that it has not.
void mark(const value & v, bool own) {
    for (auto & part : v->val_str.parts) {
        part.is_input = own;
    }
    for (const value & item : v->val_arr) {
        mark(item, own);
    }
    for (const auto & [key, item] : v->val_obj) {
        mark(key, own);
        mark(item, own);
    }
}

// Roles are of a few words, and templates make control tokens of them: '<|' + message['role'] + '|>'.
void mark_roles(const value & messages) {
    static const std::set<std::string> roles = {"system", "developer", "user", "assistant", "tool"};
    for (const value & message : messages->val_arr) {
        for (const auto & [key, item] : message->val_obj) {
            if (key->val_str.str() == "role" && roles.count(item->val_str.str()) != 0) {
                mark(item, true);
            }
        }
    }
}

// Nodes that take the place of the parser's in a template.

// own_literal is text of the template.
struct own_literal : public jinja::string_literal {
    using string_literal::string_literal;
    value execute_impl(context & ctx) const override {
        value v = string_literal::execute_impl(ctx);
        mark(v, true);
        return v;
    }
};

// Whether an argument of the filter or method that is being computed is not the template's own.
thread_local bool foreign_argument = false;

// watched is an argument of one.
struct watched : public jinja::expression {
    statement_ptr argument;

    explicit watched(statement_ptr && argument) : argument(std::move(argument)) { pos = this->argument->pos; }
    std::string type() const override { return argument->type(); }
    value execute_impl(context & ctx) const override {
        value v = argument->execute(ctx);
        const auto * named = jinja::cast_val<jinja::value_kwarg>(v);
        const value & given = named != nullptr ? named->val : v;
        foreign_argument |= !given->val_str.all_parts_are_input();
        return v;
    }
    void visit(context & ctx) const override { argument->visit(ctx); }
};

// puts_in says whether a filter or method puts its arguments into a string, whose flag llama.cpp then keeps.
bool puts_in(const std::string & name) { return name == "replace" || name == "indent"; }

// weakened is a filter or method that puts its arguments into a string.
template <typename T> struct weakened : public T {
    using T::T;
    value execute_impl(context & ctx) const override {
        const bool before = std::exchange(foreign_argument, false);
        value      v      = T::execute_impl(ctx);
        if (foreign_argument && jinja::is_val<jinja::value_string>(v)) {
            v = jinja::mk_val<jinja::value_string>(v->val_str);
            mark(v, false);
        }
        foreign_argument = before;
        return v;
    }
};

// body is all of a template. It records what the template writes.
struct body : public jinja::statement {
    statements               stmts;
    std::vector<std::string> names;  // of all variables
    std::string              bos, eos;

    std::string type() const override { return "Program"; }

    value execute_impl(context & ctx) const override {
        const bool traced = current != nullptr && current->renderings.size() < current->wanted &&
                            !ctx.get_val(traced_name)->is_undefined();
        if (traced) {
            prepare(ctx);
        }
        auto results = jinja::mk_val<jinja::value_array>();
        for (const auto & stmt : stmts) {
            results->push_back(stmt->execute(ctx));
        }
        if (traced) {
            const jinja::value_string written = jinja::runtime::gather_string_parts(results);
            a_text t;
            for (const auto & part : written->val_str.parts) {
                t.append(part.val, part.is_input);
            }
            current->renderings.push_back(std::move(t));
        }
        return results;
    }

    void visit(context & ctx) const override {
        for (const auto & stmt : stmts) {
            stmt->visit(ctx);
        }
    }

  private:
    // llama.cpp has set the flag for all that a template is given.
    void prepare(context & ctx) const {
        for (const std::string & name : names) {
            mark(ctx.get_val(name), false);
        }
        mark_roles(ctx.get_val("messages"));
        for (const auto & [name, text] : {std::pair("bos_token", bos), std::pair("eos_token", eos)}) {
            const value v = ctx.get_val(name);
            if (v->val_str.str() == text) {
                mark(v, true);
            }
        }
    }
};

// tracer puts our nodes into a template, and collects the names of its variables.
struct tracer {
    std::set<std::string> names;

    void each(statements & list) {
        for (statement_ptr & node : list) {
            each(node);
        }
    }

    void each(statement_ptr & node) {
        if (node == nullptr) {
            return;
        }
        if (const auto * id = jinja::cast_stmt<jinja::identifier>(node)) {
            names.insert(id->val);
        } else if (const auto * literal = jinja::cast_stmt<jinja::string_literal>(node)) {
            replace<own_literal>(node, literal->val);
        } else if (!in_statement(node) && !in_expression(node) && !in_literal(node) && !in_call(node)) {
            in_filter(node);
        }
    }

  private:
    template <typename... T> bool all(T &... children) {
        (each(children), ...);
        return true;
    }

    template <typename T, typename... Args> void replace(statement_ptr & node, Args &&... args) {
        const size_t pos = node->pos;
        auto         by  = std::make_unique<T>(std::forward<Args>(args)...);
        by->pos          = pos;
        node             = std::move(by);
    }

    bool in_statement(statement_ptr & node) {
        if (auto * s = jinja::cast_stmt<jinja::if_statement>(node)) {
            return all(s->test, s->body, s->alternate);
        }
        if (auto * s = jinja::cast_stmt<jinja::for_statement>(node)) {
            return all(s->loopvar, s->iterable, s->body, s->default_block);
        }
        if (auto * s = jinja::cast_stmt<jinja::set_statement>(node)) {
            return all(s->assignee, s->val, s->body);
        }
        if (auto * s = jinja::cast_stmt<jinja::macro_statement>(node)) {
            return all(s->name, s->args, s->body);
        }
        if (auto * s = jinja::cast_stmt<jinja::call_statement>(node)) {
            return all(s->call, s->caller_args, s->body);
        }
        return false;
    }

    bool in_expression(statement_ptr & node) {
        if (auto * e = jinja::cast_stmt<jinja::member_expression>(node)) {
            return all(e->object, e->property);
        }
        if (auto * e = jinja::cast_stmt<jinja::binary_expression>(node)) {
            return all(e->left, e->right);
        }
        if (auto * e = jinja::cast_stmt<jinja::unary_expression>(node)) {
            return all(e->argument);
        }
        if (auto * e = jinja::cast_stmt<jinja::ternary_expression>(node)) {
            return all(e->condition, e->true_expr, e->false_expr);
        }
        if (auto * e = jinja::cast_stmt<jinja::select_expression>(node)) {
            return all(e->lhs, e->test);
        }
        if (auto * e = jinja::cast_stmt<jinja::test_expression>(node)) {
            return all(e->operand, e->test);
        }
        if (auto * e = jinja::cast_stmt<jinja::slice_expression>(node)) {
            return all(e->start_expr, e->stop_expr, e->step_expr);
        }
        return false;
    }

    bool in_literal(statement_ptr & node) {
        if (auto * e = jinja::cast_stmt<jinja::array_literal>(node)) {
            return all(e->val);
        }
        if (auto * e = jinja::cast_stmt<jinja::tuple_literal>(node)) {
            return all(e->val);
        }
        if (auto * e = jinja::cast_stmt<jinja::object_literal>(node)) {
            for (auto & [key, item] : e->val) {
                all(key, item);
            }
            return true;
        }
        if (auto * e = jinja::cast_stmt<jinja::keyword_argument_expression>(node)) {
            return all(e->key, e->val);
        }
        if (auto * e = jinja::cast_stmt<jinja::spread_expression>(node)) {
            return all(e->argument);
        }
        return false;
    }

    bool in_call(statement_ptr & node) {
        auto * c = jinja::cast_stmt<jinja::call_expression>(node);
        if (c == nullptr) {
            return false;
        }
        all(c->callee, c->args);
        const auto * method = jinja::cast_stmt<jinja::member_expression>(c->callee);
        if (method == nullptr) {
            return true;  // a function of the template, or the arguments of a test or a filter
        }
        const auto * name = jinja::cast_stmt<jinja::identifier>(method->property);
        if (method->computed || name == nullptr || puts_in(name->val)) {
            watch(c->args);
            replace<weakened<jinja::call_expression>>(node, std::move(c->callee), std::move(c->args));
        }
        return true;
    }

    void in_filter(statement_ptr & node) {
        if (auto * f = jinja::cast_stmt<jinja::filter_expression>(node)) {
            all(f->operand, f->filter);
            if (filters_in(f->filter)) {
                replace<weakened<jinja::filter_expression>>(node, std::move(f->operand), std::move(f->filter));
            }
        } else if (auto * f = jinja::cast_stmt<jinja::filter_statement>(node)) {
            all(f->filter, f->body);
            if (filters_in(f->filter)) {
                replace<weakened<jinja::filter_statement>>(node, std::move(f->filter), std::move(f->body));
            }
        }
    }

    // filters_in watches the arguments of a filter that puts them in.
    bool filters_in(statement_ptr & filter) {
        auto * c = jinja::cast_stmt<jinja::call_expression>(filter);
        if (c == nullptr) {
            return false;  // it has no arguments
        }
        const auto * name = jinja::cast_stmt<jinja::identifier>(c->callee);
        if (name == nullptr || !puts_in(name->val)) {
            return false;
        }
        watch(c->args);
        return true;
    }

    void watch(statements & args) {
        for (statement_ptr & arg : args) {
            arg = std::make_unique<watched>(std::move(arg));
        }
    }
};

void trace(common_chat_template * tmpl) {
    if (tmpl == nullptr) {
        return;
    }
    tracer t;
    t.each(tmpl->prog.body);

    auto all   = std::make_unique<body>();
    all->pos   = 0;
    all->stmts = std::move(tmpl->prog.body);
    all->names = {t.names.begin(), t.names.end()};
    all->bos   = tmpl->bos_token();
    all->eos   = tmpl->eos_token();

    tmpl->prog.body.clear();
    tmpl->prog.body.push_back(std::move(all));
}

bool begins_with(const std::string & s, const std::string & with) { return s.compare(0, with.size(), with) == 0; }

bool ends_with(const std::string & s, const std::string & with) {
    return s.size() >= with.size() && s.compare(s.size() - with.size(), with.size(), with) == 0;
}

// without_ends returns a rendering without the marks that llama.cpp takes from its ends.
a_text without_ends(const a_text & t, const common_chat_templates * templates, const common_chat_template & tmpl) {
    size_t begin = 0;
    size_t end   = t.text.size();
    if (templates->add_bos && begins_with(t.text, tmpl.bos_token())) {
        begin = tmpl.bos_token().size();
    }
    if (templates->add_eos && ends_with(t.text, tmpl.eos_token()) && end - begin >= tmpl.eos_token().size()) {
        end -= tmpl.eos_token().size();
    }
    return t.part(begin, end);
}

// with_end returns a rendering in which a turn of gpt-oss ends, as llama.cpp changes it before an answer goes on.
a_text with_end(const a_text & t) {
    static const std::string from = "<|return|>";
    const size_t at = t.text.rfind(from);
    if (at == std::string::npos) {
        return t;
    }
    const a_text replaced = t.part(at, at + from.size());
    a_text       out      = t.part(0, at);
    out.append("<|end|>", replaced.quoted.empty());
    out.append(t.part(at + from.size(), t.text.size()));
    return out;
}

// generation returns what a template begins an answer with, by what it writes with and without that: as llama.cpp does.
a_text generation(const a_text & without, const a_text & with) {
    size_t n = 0;
    while (n < without.text.size() && n < with.text.size() && without.text[n] == with.text[n]) {
        n++;
    }
    return with.part(n, with.text.size());
}

[[noreturn]] void lost() {
    throw std::runtime_error("it cannot be told what of the prompt the chat template has written itself");
}

// An answer's beginning, which a client gave, follows on what llama.cpp writes before and between its parts.
struct beginning {
    std::string reasoning, between, content;
};

// begun returns the beginning that a prompt ends in. What is between its parts is found in another prompt, which has a
// mark in the place of the reasoning.
beginning begun(const common_chat_templates * templates, const common_chat_templates_inputs & in) {
    const common_chat_msg & msg = in.messages.back();
    beginning b{msg.reasoning_content, "", msg.render_content()};
    if (b.reasoning.empty()) {
        return b;
    }

    std::random_device           random;
    const std::string            marked = "serve-" + std::to_string(random()) + "-" + std::to_string(random());
    common_chat_templates_inputs twin   = in;
    twin.messages.back().reasoning_content = marked;
    const std::string prompt = common_chat_templates_apply(templates, twin).prompt;

    const size_t at = prompt.rfind(marked);
    if (at == std::string::npos || !ends_with(prompt, b.content)) {
        b.reasoning.clear();  // the template leaves it out
        return b;
    }
    const size_t from = at + marked.size();
    b.between = prompt.substr(from, prompt.size() - b.content.size() - from);
    return b;
}

// append_beginning appends how an answer begins, which is known, to the rest of a prompt.
void append_beginning(a_text & t, std::string tail, const beginning & b, const a_text & generated) {
    const std::string all = b.reasoning + b.between + b.content;
    if (!ends_with(tail, all)) {
        lost();
    }
    tail.resize(tail.size() - all.size());

    // What comes before is the template's beginning of an answer, or llama.cpp's own words.
    size_t same = 0;
    while (same < tail.size() && same < generated.text.size() && tail[same] == generated.text[same]) {
        same++;
    }
    t.append(generated.part(0, same));
    t.append(tail.substr(same), true);
    t.append(b.reasoning, false);
    t.append(b.between, true);
    t.append(b.content, false);
}

}  // namespace

void trace_templates(common_chat_templates * templates) {
    trace(templates->template_default.get());
    trace(templates->template_tool_use.get());
}

void trace_chat(common_chat_templates_inputs & in) { in.chat_template_kwargs[traced_name] = "true"; }

traced_chat apply_traced(const common_chat_templates * templates, const common_chat_templates_inputs & in) {
    const bool continues = in.continue_final_message != COMMON_CHAT_CONTINUATION_NONE;
    const auto & tmpl    = !in.tools.empty() && templates->template_tool_use ? *templates->template_tool_use
                                                                             : *templates->template_default;
    // The prompt comes first, and then llama.cpp looks for how an answer begins.
    recording   r{continues ? (size_t) 3 : (size_t) 1, {}};
    traced_chat out;
    {
        const recording_scope scope(&r);
        out.params = common_chat_templates_apply(templates, in);
    }
    if (r.renderings.empty()) {
        lost();
    }
    r.renderings.resize(3);  // a template without a look has an answer begin with nothing
    for (a_text & rendered : r.renderings) {
        rendered = without_ends(rendered, templates, tmpl);
    }

    const std::string & prompt = out.params.prompt;
    a_text              t      = r.renderings[0];
    if (continues && !begins_with(prompt, t.text)) {
        t = with_end(t);
    }
    if (!begins_with(prompt, t.text)) {
        lost();
    }
    const std::string tail = prompt.substr(t.text.size());
    if (!continues || tail.empty()) {
        t.append(tail, true);  // of llama.cpp's own code for a template
    } else {
        append_beginning(t, tail, begun(templates, in), generation(r.renderings[1], r.renderings[2]));
    }
    out.quoted = std::move(t.quoted);
    return out;
}
