package llama

// #include "shim.h"
import "C"

import (
	"fmt"
	"math"
)

// KernelCheck is what came of computing with one of the processor's kernels.
type KernelCheck struct {
	Kernel     string  // a type of weights, or of KV cells, and what is done with it: "q4_K experts in CPU_REPACK"
	Rows       int     // of activations, where the difference is greatest
	Finite     bool    // whether all results are numbers
	Difference float64 // from exact results: the mean square of the worst row over that of the row; 0 unless Finite
	Tolerance  float64 // the most that may be
}

// Right says whether the kernel may be used.
func (k KernelCheck) Right() bool { return k.Finite && k.Difference <= k.Tolerance }

// CheckOptions say how CheckKernels goes about it.
type CheckOptions struct {
	Threads int                              // Threads(), but no more than four: the products are small
	First   int                              // how many kernels to leave out, of those that come first
	Begin   func(i int, kernel string) error // is called before a kernel computes; an error ends the check
	Done    func(KernelCheck) error          // is called when it has; likewise

	spoil bool // mixes up what kernels compute with, for tests
}

// CheckKernels computes small products with each of the kernels in use, and compares them
// with exact ones. It takes a second or two. A kernel that the processor cannot run ends
// the process: do it in one that may end, and see what began last.
func CheckKernels(o CheckOptions) error {
	initialize()
	if o.Threads == 0 {
		o.Threads = min(Threads(), 4)
	}
	var e C.serve_error
	list := C.serve_check_new(C.int32_t(o.Threads), &e)
	if err := goError(&e); err != nil {
		return fmt.Errorf("check kernels: %w", err)
	}
	defer C.serve_check_free(list)

	for i := o.First; i < int(C.serve_check_count(list)); i++ {
		kernel := C.GoString(C.serve_check_name(list, C.int32_t(i)))
		if err := o.Begin(i, kernel); err != nil {
			return err
		}

		var c C.serve_kernel_check
		C.serve_check_run(list, C.int32_t(i), C.bool(o.spoil), &c, &e)
		if err := goError(&e); err != nil {
			return fmt.Errorf("check kernel %s: %w", kernel, err)
		}

		check := KernelCheck{Kernel: kernel, Rows: int(c.rows), Tolerance: float64(c.tolerance)}
		if check.Finite = !math.IsInf(float64(c.difference), 0); check.Finite {
			check.Difference = float64(c.difference)
		}
		if err := o.Done(check); err != nil {
			return err
		}
	}
	return nil
}
