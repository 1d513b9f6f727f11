//go:build !linux

package main

func beForbidden() {}
