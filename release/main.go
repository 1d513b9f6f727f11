// Command release builds the files to publish: release.sh calls it; see docs/releasing.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

const usage = `usage:
  release check -root FOLDER PROGRAM...            the programs can be published
  release hardened PROGRAM...                      the programs have what makes mistakes in C hard to use
  release licenses -goarch ARCH [-program PROGRAM] [-text NAME=FILE] >FILE
                                                   licenses of all that is linked into serve
  release archive -epoch SECONDS -out FILE FOLDER  the folder as a tar.gz
  release sums FILE...                             SHA256SUMS of files, to stdout`

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "release: error: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}

	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	root := flags.String("root", ".", "folder that the programs were built in")
	goarch := flags.String("goarch", "amd64", "architecture of the program")
	program := flags.String("program", "", "a program whose modules must be among those found")
	epoch := flags.Int64("epoch", 0, "time of everything in the archive, in seconds since 1970")
	out := flags.String("out", "", "file to write")
	var texts []text
	flags.Func("text", "an additional component and the file with its license", func(value string) error {
		t, err := readNamed(value)
		texts = append(texts, t)
		return err
	})
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}

	switch args[0] {
	case "check":
		return check(*root, flags.Args())
	case "hardened":
		return hardened(flags.Args())
	case "licenses":
		return writeLicenses(stdout, licenseOptions{goarch: *goarch, program: *program, extra: texts})
	case "archive":
		if flags.NArg() != 1 || *out == "" {
			return errors.New(usage)
		}
		return writeArchive(*out, flags.Arg(0), time.Unix(*epoch, 0).UTC())
	case "sums":
		return writeSums(stdout, flags.Args())
	}
	return errors.New(usage)
}
