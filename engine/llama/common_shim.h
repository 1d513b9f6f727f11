// What the C++ files of the shim share.
#pragma once

#include "shim.h"

#include "grammar.h"

#include "chat.h"
#include "json.h"
#include "llama.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

struct analyzed_template;  // in chat_analysis.cpp
class special_tokens;      // in tokenize.h
struct byte_range;         // in provenance.h
struct traced_chat;        // in provenance.h

struct serve_model {
    llama_model *             model = nullptr;
    const llama_vocab *       vocab = nullptr;
    common_chat_templates_ptr templates;
    mutable std::once_flag    trie_made;
    mutable std::unique_ptr<token_trie> trie;  // made when a grammar first needs it
    mutable std::once_flag                  special_made;
    mutable std::shared_ptr<special_tokens> special;  // made when a text is first tokenized

    // Of the template for chats without tools, and of a variant for those with them. Made by the first such chat.
    mutable std::once_flag                           analyzed[2];
    mutable std::shared_ptr<const analyzed_template> analyses[2];
};

// The first error that llama.cpp logged on this thread since a call began: the
// cause, when the call returns NULL. Those after it say that something failed.
extern thread_local std::string first_error;

// Whether all of llama.cpp's log on this thread is at debug level.
extern thread_local bool quiet_log;

// quieted keeps the log quiet while it lives, if it is to: what a layout says, the load says
// again, and its first error is in the message.
struct quieted {
    explicit quieted(bool on) { quiet_log = on; }
    ~quieted() { quiet_log = false; }
    quieted(const quieted &) = delete;
    quieted & operator=(const quieted &) = delete;
};

// In placement.cpp.
struct placement;
std::unique_ptr<placement, void (*)(placement *)> read_placement(const char * json);
void apply(const placement & p, llama_model_params & params);
ggml_backend_dev_t device_named(const std::string & name);  // throws where there is none

// In context.cpp.
llama_context_params context_params(const serve_context_params & p);
int32_t sampled_rows(const serve_context_params & p);  // most rows of logits of a decode

// In request_grammar.cpp. j is the JSON that makes a sampler.
std::unique_ptr<grammar> new_grammar(const serve_model * model, const common_json & j);

// In chat_analysis.cpp. It returns what apply_traced does, as far as the shim uses it, and sooner.
traced_chat render_chat(const serve_model * model, const common_chat_templates_inputs & in);

// In tokenize.cpp. Ends adds what the model wants before and after a text, control reads the text of control tokens as
// such, but for what is quoted.
std::vector<llama_token> tokenize(const serve_model * model, const char * text, size_t len, bool ends, bool control,
                                  const std::vector<byte_range> & quoted);

// In memory.cpp.
void release_unused_pages(const llama_model * model);
bool plain(const llama_model * model);

inline char * copy_string(const std::string & s) {
    char * p = (char *) malloc(s.size() + 1);
    if (p != nullptr) {
        memcpy(p, s.c_str(), s.size() + 1);
    }
    return p;
}

inline void fail(serve_error * err, int32_t code, const std::string & message) {
    err->code    = code;
    err->message = copy_string(message);
}

// guard runs f and turns whatever it throws into err, and the result into its zero value.
template <typename F> auto guard(serve_error * err, F f) -> decltype(f()) {
    err->code    = SERVE_OK;
    err->message = nullptr;
    try {
        return f();
    } catch (const std::bad_alloc &) {
        fail(err, SERVE_NO_MEMORY, "out of memory");
    } catch (const std::exception & e) {
        fail(err, SERVE_FAILED, e.what());
    } catch (...) {
        fail(err, SERVE_FAILED, "unknown C++ exception");
    }
    return decltype(f())();
}

inline std::string llama_error(const char * what) {
    return first_error.empty() ? std::string(what) : std::string(what) + ": " + first_error;
}
