// Stands in for llama.cpp's file of this name: what the probe looks for, in our words.
struct tile_config_t {
    unsigned char  palette;
    unsigned char  start;
    unsigned char  reserved[14];
    unsigned short colsb[16];
    unsigned char  rows[16];
};

inline void ggml_tile_config_init(void) {
    tile_config_t tc = {};
    tc.palette = 1;
    tc.rows[0] = 8;
    tc.colsb[0] = 64;
    tc.rows[1] = 16;
    tc.colsb[1] = 32;
    _tile_loadconfig(&tc);
}
