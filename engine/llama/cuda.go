package llama

// #include "shim.h"
import "C"

import "errors"

// LoadCUBLAS loads cuBLAS, which is no part of the program, and returns why it cannot be. The CUDA backend needs it
// for some models: those whose weights are all quantized do without, as a rule. A build without CUDA needs none.
func LoadCUBLAS() error {
	var e C.serve_error
	why := goString(C.serve_cublas(&e))
	if err := goError(&e); err != nil {
		return err
	}
	if why != "" {
		return errors.New(why)
	}
	return nil
}
