#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"
#include "provenance.h"

#include "chat-auto-parser.h"
#include "chat.h"
#include "common.h"
#include "json.h"

#include <memory>
#include <mutex>
#include <string>

// For a template that llama.cpp has no code for, it derives the format of the answers by rendering dozens of examples,
// and does so anew for each chat. What it finds depends on the template alone, so that it is kept with the model.

struct analyzed_template {
    common_chat_template   tmpl;  // llama.cpp's analysis points to it
    autoparser::autoparser format;

    analyzed_template(const std::string & source, const std::string & bos, const std::string & eos) :
        tmpl(source, bos, eos) {}
};

namespace {

std::string token_text(const serve_model * model, llama_token token) {
    return token == LLAMA_TOKEN_NULL ? "" : common_token_to_piece(model->vocab, token, true);
}

// An example conversation: the format does not depend on what is said.
common_json example_messages() {
    common_json message = common_json::object();
    message["role"]    = "user";
    message["content"] = "Hello";
    common_json messages = common_json::array();
    messages.push_back(message);
    return messages;
}

// format_params returns what a format depends on besides the template.
autoparser::generation_params format_params(const serve_model * model, const common_chat_templates_inputs & in) {
    autoparser::generation_params p;
    p.messages              = example_messages();
    p.tools                 = common_chat_tools_to_json_oaicompat(in.tools);
    p.tool_choice           = in.tool_choice;
    p.parallel_tool_calls   = in.parallel_tool_calls;
    p.reasoning_format      = in.reasoning_format;
    p.enable_thinking       = in.enable_thinking;
    p.add_generation_prompt = in.add_generation_prompt;
    p.add_bos               = llama_vocab_get_add_bos(model->vocab);
    p.add_eos               = llama_vocab_get_add_eos(model->vocab);
    p.extra_context         = common_json::object();
    for (const auto & [key, value] : in.chat_template_kwargs) {
        p.extra_context[key] = common_json::parse(value);
    }
    if (!in.json_schema.empty()) {
        p.json_schema = common_json::parse(in.json_schema);
    }
    return p;
}

// analyze returns the analysis of a model's template, or nothing for one that llama.cpp has code for, or cannot analyze.
std::shared_ptr<const analyzed_template> analyze(const serve_model * model, const char * variant) {
    try {
        const std::string source = common_chat_templates_source(model->templates.get(), variant);
        auto analyzed = std::make_shared<analyzed_template>(source, token_text(model, llama_vocab_bos(model->vocab)),
                                                            token_text(model, llama_vocab_eos(model->vocab)));
        common_chat_templates_inputs none;
        auto params = format_params(model, none);
        if (common_chat_try_specialized_template(analyzed->tmpl, analyzed->tmpl.source(), params)) {
            return nullptr;
        }
        analyzed->format.analyze_template(analyzed->tmpl);
        return analyzed;
    } catch (const std::exception &) {
        return nullptr;  // for llama.cpp to fail at, where a chat is rendered
    }
}

const analyzed_template * analysis(const serve_model * model, const common_chat_templates_inputs & in) {
    const bool has_variant = !common_chat_templates_source(model->templates.get(), "tool_use").empty();
    const size_t which = has_variant && !in.tools.empty() ? 1 : 0;
    std::call_once(model->analyzed[which], [&] { model->analyses[which] = analyze(model, which == 1 ? "tool_use" : ""); });
    return model->analyses[which].get();
}

}  // namespace

traced_chat render_chat(const serve_model * model, const common_chat_templates_inputs & in) {
    const analyzed_template * known = analysis(model, in);
    if (known == nullptr || in.continue_final_message != COMMON_CHAT_CONTINUATION_NONE) {
        return apply_traced(model->templates.get(), in);
    }

    // The prompt is the same without a format.
    common_chat_templates_inputs unformatted = in;
    unformatted.force_pure_content = true;
    traced_chat rendered = apply_traced(model->templates.get(), unformatted);

    common_chat_params out;
    try {
        const auto params = format_params(model, in);
        out = autoparser::peg_generator::generate_parser(known->tmpl, params, known->format);
    } catch (const std::exception &) {
        return apply_traced(model->templates.get(), in);  // the example may be at fault
    }
    if (out.generation_prompt != rendered.params.generation_prompt) {
        return apply_traced(model->templates.get(), in);  // it depends on what is said
    }
    out.prompt            = std::move(rendered.params.prompt);
    out.supports_thinking = known->format.reasoning.mode != autoparser::reasoning_mode::NONE;
    rendered.params       = std::move(out);
    return rendered;
}
