//go:build !linux

package main

import "errors"

func forbidNetwork() error { return errors.New("only on Linux") }
