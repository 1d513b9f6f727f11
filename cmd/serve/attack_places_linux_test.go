package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// placeAttacks take places, memory or time that others need.
func placeAttacks() []attack {
	return slices.Concat(queueAttacks(), memoryAttacks(), pictureAttacks())
}

// queueAttacks ask for very much with one request.
func queueAttacks() []attack {
	const completions = "/v1/completions"
	prompts := func(n int, fields string) func() string {
		return func() string {
			prompt := `"` + strings.Repeat("word ", 300) + `"`
			return `{"model":"tiny",` + fields + `"prompt":[` + strings.Repeat(prompt+",", n-1) + prompt + `]}`
		}
	}
	return []attack{
		{
			name:  "1,800 prompts",
			path:  completions,
			works: true,
			body:  prompts(1800, `"max_tokens":1,`),
		},
		{
			name: "2,048 prompts with 128 answers each",
			path: completions,
			body: prompts(2048, `"max_tokens":1,"n":128,`),
		},
		{
			name:  "128 answers to a prompt",
			path:  completions,
			works: true,
			body:  prompts(1, `"max_tokens":2,"n":128,`),
		},
		{
			name:  "2,048 embeddings",
			path:  "/v1/embeddings",
			works: true,
			body: func() string {
				return `{"model":"tiny","input":[` + strings.Repeat(`"word word word",`, 2047) + `"word"]}`
			},
		},
		{
			name: "sequence breakers of 3 MiB",
			path: "/v1/chat/completions",
			body: func() string {
				breaker := `"` + strings.Repeat("a", 48<<10) + `"`
				return chatWith(`"max_tokens":1,"dry_multiplier":1,"dry_sequence_breakers":[`+
					strings.Repeat(breaker+",", 63)+breaker+`]`, "x")
			},
		},
		{
			name: "an unknown model and a schema",
			path: "/v1/chat/completions",
			body: func() string {
				return `{"model":"none","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema",` +
					`"json_schema":{"name":"s","schema":{"enum":[` + strings.Repeat(`"aaaaaaaaaaaaaaaaaaaaaaaa",`, 100_000) +
					`""],"pattern":"(a|a)*b"}}}}`
			},
		},
	}
}

// memoryAttacks send what takes much memory for each of its bytes.
func memoryAttacks() []attack {
	filled := func(size int, before, text, after string) func() string {
		return func() string { return before + strings.Repeat(text, (size-len(before))/len(text)) + after }
	}
	const whole = 4<<20 - 64
	return []attack{
		{
			name: "4 MiB of token ids",
			path: "/v1/completions",
			body: filled(whole, `{"model":"tiny","max_tokens":1,"prompt":[`, "1,", "1]}"),
		},
		{
			name: "a million token ids",
			path: "/v1/embeddings",
			body: filled(2_000_000, `{"model":"tiny","input":[`, "1,", "1]}"),
		},
		{
			name: "16 MiB of token ids",
			path: "/v1/completions",
			body: filled(16<<20, `{"model":"tiny","max_tokens":1,"prompt":[`, "1,", "1]}"),
		},
		{
			name: "a million tokens to a text",
			path: "/detokenize",
			body: filled(2_000_000, `{"model":"tiny","tokens":[`, "9,", "9]}"),
		},
		{
			name: "4 MiB of tools",
			path: "/v1/chat/completions",
			body: filled(whole, `{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"x"}],`+
				`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","description":"`, "<", `"}}}]}`),
		},
		{
			name: "32 MiB of tools",
			path: "/v1/chat/completions",
			body: filled(32<<20-64, `{"model":"tiny","messages":[{"role":"user","content":"x"}],"tools":[`, `{},`, `{}]}`),
		},
		{
			name: "4 MiB of <",
			path: "/v1/chat/completions",
			body: filled(whole, `{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"`, "<", `"}]}`),
		},
		{
			name: "4 MiB to tokenize",
			path: "/tokenize",
			body: filled(whole, `{"model":"tiny","prompt":"`, "word ", `"}`),
		},
		{
			name: "bodies that are held back",
			send: holdBack,
		},
		{
			name: "clients that hang up",
			send: hangUp,
		},
	}
}

// holdBack opens connections that announce much and send nothing for a while.
func holdBack(ctx context.Context, url string) (int, error) {
	address := strings.TrimPrefix(url, "http://")
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for range 64 {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return 0, err
		}
		conns = append(conns, conn)
		fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer attacker\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n{", address, 4<<20)
	}
	select {
	case <-time.After(200 * time.Millisecond):
	case <-ctx.Done():
	}
	return 0, nil
}

// hangUp sends large requests and does not wait for the answers.
func hangUp(ctx context.Context, url string) (int, error) {
	body := chatWith(`"max_tokens":1000`, strings.Repeat("word ", 600))
	for range 32 {
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		req, err := http.NewRequestWithContext(short, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
		if err == nil {
			req.Header.Set("Authorization", "Bearer attacker")
			if res, failed := http.DefaultClient.Do(req); failed == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}
		cancel()
	}
	return 0, nil
}

// pictureAttacks send images. The model reads none, so that nothing of them may be decoded.
func pictureAttacks() []attack {
	return []attack{{
		name: "an image of 40 million pixels",
		path: "/v1/chat/completions",
		body: func() string {
			var file bytes.Buffer
			_ = png.Encode(&file, image.NewPaletted(image.Rect(0, 0, 8000, 5000), color.Palette{color.White}))
			return `{"model":"tiny","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":` +
				`"data:image/png;base64,` + base64.StdEncoding.EncodeToString(file.Bytes()) + `"}}]}]}`
		},
	}}
}
