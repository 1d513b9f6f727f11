// Linked in place of ggml's call of llamafile_sgemm (build.sh, --wrap): where a step must be reproducible, a product
// takes the one path that computes each row alike, however many rows there are. llamafile's tiles add the same numbers
// in another order, and ggml uses them only from two rows on.
#include "ggml-cpu-impl.h"

#include <stdbool.h>
#include <stdint.h>

bool __real_llamafile_sgemm(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * a,
                            int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc, int a_type, int b_type,
                            int c_type);

bool __wrap_llamafile_sgemm(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * a,
                            int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc, int a_type, int b_type,
                            int c_type) {
    return !params->use_ref &&
           __real_llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}
