// A cuBLAS, whose product is a number that says whether all arguments came.
#include <stddef.h>

int cublasCreate_v2(void ** handle) {
    static int made;
    *handle = &made;
    return 0;
}

const char * cublasGetStatusString(int status) {
    (void) status;
    return "words of the test";
}

int cublasGemmEx(void * handle, int a, int b, int c, int d, int e, const void * p, const void * q, int f, int g,
                 const void * r, int h, int i, const void * s, void * t, int j, int k, int l, int m) {
    void * mine = NULL;
    cublasCreate_v2(&mine);
    if (handle != mine || p || q || r || s || t) {
        return -1;
    }
    const int all[] = {a, b, c, d, e, f, g, h, i, j, k, l, m};
    int sum = 0;
    for (int n = 0; n < 13; n++) {
        sum += all[n] * (n + 1);
    }
    return sum;
}
