package llama

// #include "shim.h"
import "C"

import "errors"

// CUDA is what NVIDIA's libraries, which are no part of the program, are like here.
type CUDA struct {
	// Driver is why it cannot be used; nil if it can.
	Driver error

	// CUBLAS is why it cannot be loaded, and nil without a driver. Models whose weights are all quantized do
	// without it, as a rule.
	CUBLAS error
}

// FindCUDA loads NVIDIA's libraries and reports false in a build that does not use them.
func FindCUDA() (CUDA, bool) {
	if !C.serve_cuda_built() {
		return CUDA{}, false
	}

	var e C.serve_error
	driver := goString(C.serve_cuda_driver(&e))
	found := CUDA{Driver: reason(driver, goError(&e))}
	if found.Driver == nil {
		cublas := goString(C.serve_cuda_cublas(&e))
		found.CUBLAS = reason(cublas, goError(&e))
	}

	return found, true
}

// reason is what a call returned that says why something cannot be used, or why the call failed.
func reason(why string, err error) error {
	if err == nil && why != "" {
		return errors.New(why)
	}
	return err
}
