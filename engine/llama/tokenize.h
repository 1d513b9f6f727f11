// Splitting text into tokens: llama.cpp splits text between control tokens, which are found here, in time that is
// linear in the text.
#pragma once

#include "common_shim.h"
#include "provenance.h"

#include "llama.h"

#include <string>
#include <utility>
#include <vector>

// special_tokens finds the texts of control tokens, and of others that are not split, as llama.cpp does: longer
// ones first.
class special_tokens {
  public:
    // match is a token in a text, with the space that it takes.
    struct match {
        int32_t rank;
        size_t  begin;
        size_t  end;
    };

    explicit special_tokens(const llama_vocab * vocab);

    // find returns the tokens in a text, in its order; control tokens only with control, and neither those nor others
    // that mark turns where they have a byte in what is quoted. Of the latter, llama.cpp would read user-defined ones:
    // within each is one of the cuts, in order.
    std::vector<match> find(const char * text, size_t len, bool control, const std::vector<byte_range> & quoted,
                            std::vector<size_t> & cuts) const;

    llama_token id(const match & m) const { return tokens[m.rank].id; }

  private:
    struct token {
        llama_token      id;
        llama_token_attr attr;
        std::string      text;
        bool             control;  // or an unknown token, which llama.cpp treats alike
        bool             marks;    // its text has the form of tokens for turns
    };
    struct node {
        std::vector<std::pair<char, int32_t>> children;
        std::vector<int32_t>                  ranks;  // of the tokens that end here
    };

    std::vector<token> tokens;
    std::vector<node>  nodes;
    int32_t            first[256] = {};  // children of the root
};
