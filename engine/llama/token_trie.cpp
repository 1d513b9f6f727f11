#if !__has_include("llama.h")
#error "llama.cpp is not built: run `make llama` first"
#endif

#include "grammar.h"


#include "common.h"

#include <algorithm>
#include <string>
#include <tuple>

token_trie::token_trie(const llama_vocab * vocab) {
    const int32_t n = llama_vocab_n_tokens(vocab);
    texts.resize(n);
    for (llama_token t = 0; t < n; t++) {
        if (llama_vocab_is_eog(vocab, t)) {
            ends.push_back(t);
            continue;
        }
        std::string text = common_token_to_piece(vocab, t, true);
        if (text.empty() || text[0] == '\0' || text.size() > UINT16_MAX) {
            continue;
        }
        depth = std::max(depth, text.size());
        texts[t] = std::move(text);
        tokens.push_back(t);
    }
    std::sort(tokens.begin(), tokens.end(), [&](llama_token a, llama_token b) { return std::tie(texts[a], a) < std::tie(texts[b], b); });

    std::vector<int32_t> path;  // nodes of the token before
    const std::string    nothing;
    const std::string *  before = &nothing;
    const auto           leave  = [&](size_t depth) {
        for (; path.size() > depth; path.pop_back()) {
            nodes[path.back()].end = (int32_t) nodes.size();
        }
    };
    for (int32_t i = 0; i < (int32_t) tokens.size(); i++) {
        const std::string & text = texts[tokens[i]];
        leave(std::mismatch(text.begin(), text.begin() + std::min(text.size(), before->size()), before->begin()).first - text.begin());
        while (path.size() < text.size()) {
            const size_t d = path.size();
            path.push_back((int32_t) nodes.size());
            nodes.push_back({(uint8_t) text[d], (uint16_t) d, 0, i, i});
        }
        nodes[path.back()].last = i + 1;
        before = &text;
    }
    leave(0);
}
