// Which bytes of a rendered prompt are the chat template's own, and which are not.
//
// A text that a client sends may spell a control token, and must not become one. llama.cpp's templates compute with
// strings of parts, each of which has a flag. Here the flag says that the template has written the part itself: each of
// its literals begins with the flag, and nothing else does. What an operation makes of parts it cannot tell apart, it
// makes without the flag, so that what gets lost is trust.
#pragma once

#include "chat.h"

#include <cstddef>
#include <string>
#include <vector>

// byte_range is text from begin on and before end.
struct byte_range {
    size_t begin;
    size_t end;
};

// traced_chat is what common_chat_templates_apply returns, with the ranges of the prompt that are not the template's
// own text, in order.
struct traced_chat {
    common_chat_params      params;
    std::vector<byte_range> quoted;
};

// trace_templates changes templates so that apply_traced can trace them. What they write stays the same.
void trace_templates(common_chat_templates * templates);

// trace_chat makes a chat one whose rendering is traced; llama.cpp renders examples with the same template.
void trace_chat(common_chat_templates_inputs & in);

// apply_traced is common_chat_templates_apply for a chat that is traced. It throws if it cannot tell whose a text is.
traced_chat apply_traced(const common_chat_templates * templates, const common_chat_templates_inputs & in);
