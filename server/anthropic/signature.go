package anthropic

import (
	"encoding/base64"
	"strings"
)

// A client that wants no thinking shown gets it in the signature, which clients send back unread. So
// a model has the thoughts of its earlier turns, and the prompt goes on from what is cached.

const signaturePrefix = "thinking:"

// sign returns the signature of a thinking block that is not shown.
func sign(thinking []byte) string {
	return signaturePrefix + base64.StdEncoding.EncodeToString(thinking)
}

// thoughts returns what a thinking block says: its text, or what its signature contains. Signatures
// of others contain nothing.
func thoughts(text, signature string) string {
	encoded, ours := strings.CutPrefix(signature, signaturePrefix)
	if text != "" || !ours {
		return text
	}
	thinking, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return text
	}
	return strings.ToValidUTF8(string(thinking), "\uFFFD")
}
