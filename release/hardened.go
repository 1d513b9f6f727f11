package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// hardened returns an error if a program lacks what makes mistakes in C and C++ hard to use.
func hardened(programs []string) error {
	for _, program := range programs {
		if err := checkHardening(program); err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		if err := checkAssertions(program); err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
	}
	return nil
}

// checkHardening names all that a program lacks.
func checkHardening(program string) error {
	file, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer file.Close()

	var lacks []error
	need := func(has bool, what string) {
		if !has {
			lacks = append(lacks, errors.New(what))
		}
	}

	need(file.Type == elf.ET_DYN && hasFlag(file, elf.DT_FLAGS_1, uint64(elf.DF_1_PIE)),
		"its place in memory is always the same (-buildmode=pie)")
	need(hasFlag(file, elf.DT_FLAGS_1, uint64(elf.DF_1_NOW)) || hasFlag(file, elf.DT_FLAGS, uint64(elf.DF_BIND_NOW)),
		"functions are bound when they are first called (-z now)")
	need(hasSegment(file, elf.PT_GNU_RELRO), "its tables of addresses stay writable (-z relro)")
	need(hasSegment(file, elf.PT_GNU_STACK), "it does not say whether its stack can be executed")
	for _, p := range file.Progs {
		need(p.Flags&elf.PF_X == 0 || p.Flags&elf.PF_W == 0,
			fmt.Sprintf("the segment %v can be written to and executed", p.Type))
	}

	imported, err := file.ImportedSymbols()
	if err != nil {
		return err
	}
	need(slices.ContainsFunc(imported, func(s elf.ImportedSymbol) bool { return s.Name == "__stack_chk_fail" }),
		"functions do not check their stack (-fstack-protector-strong)")
	need(slices.ContainsFunc(imported, func(s elf.ImportedSymbol) bool {
		return strings.HasPrefix(s.Name, "__") && strings.HasSuffix(s.Name, "_chk")
	}), "buffers' sizes are not checked (-D_FORTIFY_SOURCE=3)")
	return errors.Join(lacks...)
}

// assertion is what libstdc++ prints when one of its assertions fails. It is linked if there are any.
const assertion = "%s:%d: %s: Assertion '%s' failed."

// checkAssertions makes sure that indices are checked.
func checkAssertions(program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if !bytes.Contains(content, []byte(assertion)) {
		return errors.New("indices of vectors are not checked (-D_GLIBCXX_ASSERTIONS)")
	}
	return nil
}

// hasFlag reports whether an entry of the dynamic section has a flag.
func hasFlag(file *elf.File, tag elf.DynTag, flag uint64) bool {
	values, err := file.DynValue(tag)
	return err == nil && slices.ContainsFunc(values, func(v uint64) bool { return v&flag != 0 })
}

func hasSegment(file *elf.File, kind elf.ProgType) bool {
	return slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == kind })
}
