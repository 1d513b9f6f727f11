package certs

import (
	"crypto/tls"
	"strings"
	"unicode/utf8"
)

// maxIdentity is how long the name of a client may be, in bytes.
const maxIdentity = 255

// Identity returns the name of the client of a connection, by its verified certificate: the first URI of its
// subject alternative names, or else the first DNS name, or else the first e-mail address. A certificate without any
// subject alternative name has its subject's common name, as CN=NAME, and one that has none of these, or whose name is
// odd, its fingerprint, as SHA256=FINGERPRINT. A name of one kind is never one of another. It reports false if there is
// no verified certificate.
//
// It may be called with nil, the state of a connection without TLS.
func Identity(state *tls.ConnectionState) (name string, ok bool) {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return "", false
	}

	c := state.VerifiedChains[0][0]
	switch {
	case len(c.URIs) > 0:
		name = c.URIs[0].String()
		ok = c.URIs[0].IsAbs()
	case len(c.DNSNames) > 0:
		name = strings.ToLower(c.DNSNames[0])
		ok = !strings.ContainsAny(name, ":/@=")
	case len(c.EmailAddresses) > 0:
		name = c.EmailAddresses[0]
		ok = strings.Contains(name, "@") && !strings.ContainsAny(name, ":/=")
	case len(c.IPAddresses) == 0 && c.Subject.CommonName != "":
		name = "CN=" + c.Subject.CommonName
		ok = true
	}
	if !ok || !isName(name) {
		name = "SHA256=" + Fingerprint(c) // then it is told from others all the same
	}
	return name, true
}

// isName reports whether a text can be a client's name: it is logged, and compared with what somebody has typed.
func isName(text string) bool {
	odd := func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError }
	return text != "" && len(text) <= maxIdentity && !strings.ContainsFunc(text, odd) && strings.TrimSpace(text) == text
}
