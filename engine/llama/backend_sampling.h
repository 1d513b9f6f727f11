// Sampling on the device that computes the logits: they do not have to be copied to the host.
#pragma once

#include "ggml-backend.h"
#include "llama.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// logits_on_gpu reports whether the logits of a model are computed on a GPU.
bool logits_on_gpu(const llama_model * model);

// backend_draw is a token to be drawn: from which row, and how.
struct backend_draw {
    int32_t index   = 0;  // of the batch entry whose logits it is drawn from
    float   above   = 0;  // tokens whose logit is that of the best, plus this, or less are left out
    float   inverse = 1;  // of the temperature
    float   at      = 0;  // in [0, 1): which of the tokens, by their probabilities in the order of their numbers
    int32_t count   = 0;  // only so many of the most probable; 0 for all
    float   mass    = 0;  // only the most probable that together have this probability; 0 for all
    const std::vector<llama_logit_bias> * biases = nullptr;  // each token once; at most max_biases

    int32_t token = undrawn;  // out

    static constexpr int32_t undrawn    = -1;  // the batch had no such row
    static constexpr int32_t no_logit   = -2;  // no logit is finite
    static constexpr int32_t on_host    = -3;  // the device cannot tell; the row's logits are on the host
    static constexpr size_t  max_biases = 64;
};

// backend_sampling draws tokens where the logits of a context are. Its graphs take the numbers of each draw as input,
// so that they stay the same from step to step.
class backend_sampling {
  public:
    // make returns nullptr where the device that computes the logits of a model lacks an operation. outputs is the most
    // rows of a decode; allocate says whether it is to compute, or only tells what it takes.
    static std::unique_ptr<backend_sampling> make(const llama_model * model, int32_t outputs, bool allocate);
    ~backend_sampling();
    backend_sampling(const backend_sampling &) = delete;
    backend_sampling & operator=(const backend_sampling &) = delete;

    // enter comes before a context is made with these parameters, and attach after it. The context then leaves its
    // logits on the device; it must be freed before this is.
    void enter(llama_context_params & params);
    void attach(llama_context * context);

    // begin prepares for a decode of n entries, in which draws are drawn. It copies to the host the rows that are
    // wanted, and those of which nothing is drawn.
    void begin(int32_t n, const int32_t * seq, const int8_t * output, const std::vector<int32_t> & wanted);

    // end throws what a decode could not.
    void end();

    std::vector<backend_draw> draws;

    // logits returns a row of the last decode that was copied to the host, nullptr for any other.
    float * logits(int32_t index);

    size_t device_bytes() const;
    size_t host_bytes() const;
    ggml_backend_dev_t device() const;

  private:
    struct state;
    explicit backend_sampling(std::unique_ptr<state> s);
    std::unique_ptr<state> s;
};
