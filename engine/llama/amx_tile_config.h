// For compilers whose _tile_loadconfig does not say what it reads (amx-probe.sh): the whole
// configuration of 64 bytes, as Intel's manual has it (LDTILECFG, volume 2A). build.sh includes it
// before the AMX kernels' own first line.
#pragma once

#if defined(__AMX_TILE__)
#include <immintrin.h>

struct amx_tile_config {
    unsigned char bytes[64];
};

#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%0" ::"m"(*(const struct amx_tile_config *) (config)))
#endif
