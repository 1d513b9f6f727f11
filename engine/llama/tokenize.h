// Splitting text into tokens: llama.cpp splits text between control tokens, which are found here, in time that is
// linear in the text.
#pragma once

#include "common_shim.h"

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

    // find returns the tokens in a text, in its order; control tokens only with control.
    std::vector<match> find(const char * text, size_t len, bool control) const;

    llama_token id(const match & m) const { return tokens[m.rank].id; }

  private:
    struct token {
        llama_token      id;
        llama_token_attr attr;
        std::string      text;
    };
    struct node {
        std::vector<std::pair<char, int32_t>> children;
        std::vector<int32_t>                  ranks;  // of the tokens that end here
    };

    std::vector<token> tokens;
    std::vector<node>  nodes;
    int32_t            first[256] = {};  // children of the root
};
