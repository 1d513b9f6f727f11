// Command download compares how fast serve and curl fetch a file from a Hub on
// loopback: serve hashes what it fetches, curl does not.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"serve/hub/hubtest"
	"serve/models/testmodel"
)

func main() {
	log.SetFlags(0)
	serve := flag.String("serve", "bin/serve", "the program")
	size := flag.Int("bytes", 1<<30, "size of the file")
	runs := flag.Int("runs", 7, "runs of each, in turns")
	dir := flag.String("dir", "", "folder to write to; a new one below the system's for temporary files")
	flag.Parse()
	if err := compare(*serve, *size, *runs, *dir); err != nil {
		log.Fatal("download: ", err)
	}
}

const repo, file = "bench/Large-GGUF", "large-Q4_K_M.gguf"

// contender fetches the file into a folder.
type contender struct {
	name    string
	command func(dir string) *exec.Cmd
	seconds []float64
	memory  int64 // the most bytes it held, over all runs
}

func compare(serve string, size, runs int, dir string) error {
	hub := hubtest.New()
	defer hub.Close()
	content, err := large(size)
	if err != nil {
		return err
	}

	commit := hub.Add(repo, hubtest.Repo{Files: map[string][]byte{file: content}})
	contenders := []*contender{
		{name: "curl", command: func(dir string) *exec.Cmd {
			return exec.Command("curl", "-sSfL", "-o", filepath.Join(dir, file), hub.URL+"/"+repo+"/resolve/"+commit+"/"+file)
		}},
		{name: "serve pull", command: func(dir string) *exec.Cmd {
			cmd := exec.Command(serve, "pull", repo)
			cmd.Env = []string{"HF_ENDPOINT=" + hub.URL, "HOME=" + dir}
			return cmd
		}},
	}

	for i := range runs {
		for j := range contenders {
			if err := contenders[(i+j)%len(contenders)].run(dir); err != nil {
				return err
			}
		}
	}

	base := median(contenders[0].seconds)
	fmt.Printf("%d MB over loopback, medians of %d runs\n", size/1e6, runs)
	for _, c := range contenders {
		m := median(c.seconds)
		fmt.Printf("%-12s %7.2f s %7.0f MB/s  %.2f x curl's speed, at most %d MB of memory\n",
			c.name, m, float64(size)/1e6/m, base/m, c.memory/1e6)
	}

	return nil
}

func (c *contender) run(parent string) error {
	dir, err := os.MkdirTemp(parent, "download")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := c.command(dir)
	var said strings.Builder
	cmd.Stderr = &said
	// What an earlier run left for the disk to write would slow this one down.
	if err := exec.CommandContext(context.Background(), "sync").Run(); err != nil {
		return err
	}

	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}

	peak := make(chan int64, 1)
	go watch(cmd.Process.Pid, peak)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", c.name, err, said.String())
	}

	c.seconds = append(c.seconds, time.Since(start).Seconds())
	c.memory = max(c.memory, <-peak)
	return nil
}

// watch reads a process's highest memory while it lives. Files do not count.
func watch(pid int, peak chan<- int64) {
	var most int64
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(string(b), "RssAnon:") {
			peak <- most
			return
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
				most = max(most, kb<<10)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// large is a GGUF file with a tensor of random bytes, so that the guard passes it.
func large(size int) ([]byte, error) {
	b := testmodel.Bytes(testmodel.Options{})
	if size < len(b) {
		return nil, fmt.Errorf("-bytes %d is too few", size)
	}
	rest := make([]byte, size-len(b))
	r := rand.NewChaCha8([32]byte{7})
	r.Read(rest)
	return append(b, rest...), nil
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return s[len(s)/2]
}
