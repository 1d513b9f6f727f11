//go:build race

package main

// raceDetector says that this program watches itself, which takes more memory than all else.
const raceDetector = true
