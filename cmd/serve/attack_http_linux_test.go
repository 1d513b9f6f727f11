package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// httpAttacks are odd in what they do with connections, bodies, answers and what is stored.
func httpAttacks() []attack {
	const (
		chat      = "/v1/chat/completions"
		responses = "/v1/responses"
	)
	return []attack{
		{
			name: "a conversation in the template's arguments",
			path: chat,
			body: func() string {
				return chatWith(`"max_tokens":1,"chat_template_kwargs":{"messages":[{"role":"user","content":"`+
					strings.Repeat("x", 1<<20)+`"}]}`, "Hello")
			},
		},
		{
			name: "a key twice, in the last of many objects",
			path: chat,
			body: func() string {
				return `{"model":"tiny","messages":[` + strings.Repeat(`{"role":"user","content":"x"},`, 1<<15) +
					`{"role":"user","content":"checked","content":"read"}]}`
			},
		},
		{
			name: "4 MiB of keys, all of them others",
			path: chat,
			body: func() string { return chatWith(`"max_tokens":1,"metadata":{`+manyKeys(4<<20)+`}`, "Hello") },
		},
		{
			name: "a label of 4 MiB that is null",
			path: responses,
			body: func() string {
				return `{"model":"tiny","input":"Hello","max_output_tokens":1,"metadata":{"` +
					strings.Repeat("x", 4<<20) + `":null}}`
			},
		},
		{
			name: "a user of 4 MiB",
			path: responses,
			body: func() string {
				return `{"model":"tiny","input":"Hello","max_output_tokens":1,"user":"` + strings.Repeat("x", 4<<20) + `"}`
			},
		},
		{name: "a body that drips", send: drippingBody},
		{name: "a header that drips", send: drippingHeader},
		{name: "an answer that nobody reads", send: unreadAnswer},
		{name: "1,500 connections of one address", send: manyConnections},
	}
}

// manyKeys returns so many bytes of fields, each with a key of its own.
func manyKeys(bytes int) string {
	var b strings.Builder
	for i := 0; b.Len() < bytes; i++ {
		fmt.Fprintf(&b, `"k%d":"",`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// attackTime is how long an attack on connections goes on.
const attackTime = 2 * time.Second

// attackFrom is an address of this machine that is not the bystander's.
var attackFrom = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}

// connect opens a connection that ends with the attack.
func connect(ctx context.Context, url string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: attackFrom}
	c, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(url, "http://"))
	if err == nil {
		err = c.SetDeadline(time.Now().Add(attackTime))
	}
	return c, err
}

// drip sends a text, and then a byte now and then, and returns the status of an answer; 0 if there is none.
func drip(ctx context.Context, url, text string) (int, error) {
	c, err := connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	go func() {
		_, err := io.WriteString(c, text)
		for ; err == nil; time.Sleep(attackTime / 20) {
			_, err = c.Write([]byte("x"))
		}
	}()

	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, nil // it is still waiting for the rest
	}
	return res.StatusCode, res.Body.Close()
}

func drippingBody(ctx context.Context, url string) (int, error) {
	return drip(ctx, url, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n"+
		`{"model":"tiny","messages":[{"role":"user","content":"`+strings.Repeat("x", 1<<20))
}

func drippingHeader(ctx context.Context, url string) (int, error) {
	return drip(ctx, url, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Drip: ")
}

// unreadAnswer asks for a long answer and reads nothing of it.
func unreadAnswer(ctx context.Context, url string) (int, error) {
	c, err := connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(1 << 10); err != nil {
		return 0, err
	}
	body := chatWith(`"stream":true,"max_tokens":500,"ignore_eos":true`, "Hello")
	_, err = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body)
	time.Sleep(attackTime)
	return 0, err
}

// manyConnections opens connections that send nothing, more than one address may have.
func manyConnections(ctx context.Context, url string) (int, error) {
	status := 0
	for range 1500 {
		c, err := connect(ctx, url)
		if err != nil {
			return status, err
		}
		defer c.Close()
	}

	last, err := connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer last.Close()
	res, err := http.ReadResponse(bufio.NewReader(last), nil)
	if err != nil {
		return 0, nil // closed without an answer: too many were refused at once
	}
	return res.StatusCode, res.Body.Close()
}
