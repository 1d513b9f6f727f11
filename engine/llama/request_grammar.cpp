#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "common_shim.h"

#include "grammar.h"

#include "common.h"
#include "json.h"
#include "llama.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// spell returns tokens whose texts together are a text, byte for byte. Tokenizing
// does that, but for SentencePiece, which puts a space before a word after a
// control token; then the longest tokens that fit will do.
std::vector<llama_token> spell(const llama_vocab * vocab, const std::string & text) {
    std::vector<llama_token> tokens = common_tokenize(vocab, text, false, true);
    std::string spelt;
    for (const llama_token t : tokens) {
        spelt += common_token_to_piece(vocab, t, true);
    }
    if (spelt == text) {
        return tokens;
    }
    tokens.clear();
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    for (size_t at = 0; at < text.size();) {
        llama_token best   = LLAMA_TOKEN_NULL;
        size_t      length = 0;
        for (llama_token t = 0; t < n_vocab; t++) {
            const std::string piece = common_token_to_piece(vocab, t, true);
            if (piece.size() > length && text.compare(at, piece.size(), piece) == 0) {
                best   = t;
                length = piece.size();
            }
        }
        if (best == LLAMA_TOKEN_NULL) {
            throw std::runtime_error("the vocabulary cannot spell the generation prompt");
        }
        tokens.push_back(best);
        at += length;
    }
    return tokens;
}

}  // namespace

// new_grammar reads a request's grammar; a lazy one sleeps until a trigger.
std::unique_ptr<grammar> new_grammar(const serve_model * model, const common_json & j) {
    std::call_once(model->trie_made, [model] { model->trie = std::make_unique<token_trie>(model->vocab); });
    grammar::triggers when;
    when.lazy = j.value("grammar_lazy", false);
    for (const auto & t : when.lazy ? j.at("triggers") : common_json::array()) {
        const std::string value = t.value("value", "");
        switch ((common_grammar_trigger_type) t.at("type").get<int32_t>()) {
            case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
                when.tokens.push_back(t.value("token", (llama_token) LLAMA_TOKEN_NULL));
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
                when.words.push_back(value);
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
                when.patterns.push_back(value);
                break;
            case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
                when.patterns.push_back("^(?:" + value + ")$");
                break;
            default:
                throw std::runtime_error("unknown kind of trigger");
        }
    }
    auto g = std::make_unique<grammar>(*model->trie, model->vocab, j.at("grammar").get<std::string>(), when);
    // A chat's grammar begins with what the template has written already, and with what
    // a client gave as the answer's beginning.
    if (!when.lazy && j.value("grammar_from_chat", false)) {
        for (const llama_token t : spell(model->vocab, j.value("generation_prompt", ""))) {
            if (!g->fits(t)) {
                throw std::runtime_error(
                    "what the answer begins with, the last message, does not fit what the answer must be");
            }
            g->accept(t);
        }
    }
    return g;
}
