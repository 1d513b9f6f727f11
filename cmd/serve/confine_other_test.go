//go:build !linux

package main

func beForbidden() {}

func beConfined() {}
