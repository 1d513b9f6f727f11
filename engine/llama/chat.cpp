#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"
#include "provenance.h"

#include "chat.h"
#include "json.h"

#include <string>
#include <vector>

namespace {

common_chat_tool_choice tool_choice_from(const std::string & s) {
    return s.empty() ? COMMON_CHAT_TOOL_CHOICE_AUTO : common_chat_tool_choice_parse_oaicompat(s);
}

// read_chat returns a chat as llama.cpp takes it.
common_chat_templates_inputs read_chat(const common_json & j) {
    common_chat_templates_inputs in;
    in.messages            = common_chat_msgs_parse_oaicompat(j.at("messages"));
    in.tools               = j.contains("tools") ? common_chat_tools_parse_oaicompat(j.at("tools")) : std::vector<common_chat_tool>();
    in.tool_choice         = tool_choice_from(j.value("tool_choice", ""));
    in.parallel_tool_calls = j.value("parallel_tool_calls", true);
    in.json_schema         = j.value("json_schema", "");
    in.enable_thinking     = j.value("enable_thinking", true);
    in.reasoning_format    = COMMON_REASONING_FORMAT_AUTO;
    if (j.value("continue_final_message", false)) {
        in.add_generation_prompt  = false;
        in.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
    }
    if (j.contains("template_kwargs")) {
        for (const auto & [key, value] : j.at("template_kwargs").items()) {
            in.chat_template_kwargs[key] = value.dump();
        }
    }
    return in;
}

}  // namespace

extern "C" {

char * serve_chat_render(const serve_model * model, const char * json, serve_error * err) {
    return guard(err, [&] {
        const common_json            j  = common_json::parse(json);
        common_chat_templates_inputs in = read_chat(j);
        trace_chat(in);
        traced_chat          traced = render_chat(model, in);
        common_chat_params & out    = traced.params;
        const std::string written = j.value("written", "");
        out.prompt            += written;
        out.generation_prompt += written;

        common_json parser = common_json::object();
        parser["format"]            = (int32_t) out.format;
        parser["arena"]             = out.parser;
        parser["generation_prompt"] = out.generation_prompt;
        parser["continuation"]      = in.continue_final_message != COMMON_CHAT_CONTINUATION_NONE;

        common_json triggers = common_json::array();
        for (const auto & t : out.grammar_triggers) {
            common_json o = common_json::object();
            o["type"]  = (int32_t) t.type;
            o["value"] = t.value;
            o["token"] = t.token;
            triggers.push_back(o);
        }
        common_json r = common_json::object();
        common_json quoted = common_json::array();
        for (const byte_range & q : traced.quoted) {
            quoted.push_back(q.begin);
            quoted.push_back(q.end);
        }
        r["prompt"]            = out.prompt;
        r["quoted"]            = quoted;
        r["grammar"]           = out.grammar;
        r["grammar_lazy"]      = out.grammar_lazy;
        r["generation_prompt"] = out.generation_prompt;
        r["triggers"]          = triggers;
        r["preserved"]         = out.preserved_tokens;
        r["stops"]             = out.additional_stops;
        r["parser"]            = parser.dump();
        // Nothing to parse: the text is the content, byte for byte. A format of its own has tokens to preserve.
        r["plain"] = in.tools.empty() && !out.supports_thinking && out.thinking_start_tag.empty() && out.preserved_tokens.empty();
        return copy_string(r.dump());
    });
}

char * serve_chat_plain(const serve_model * model, const char * json, serve_error * err) {
    return guard(err, [&] {
        const common_json               j         = common_json::parse(json);
        const common_chat_templates_ptr templates = common_chat_templates_init(model->model, "");
        return copy_string(common_chat_templates_apply(templates.get(), read_chat(j)).prompt + j.value("written", ""));
    });
}

}  // extern "C"
