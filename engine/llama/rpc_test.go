package llama

import "testing"

// TestRPCName has addresses as ggml reads them: with one colon, before the port.
func TestRPCName(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.7:50052":  "10.0.0.7:50052",
		"worker:1":        "worker:1",
		"[fd00::7]:50052": "fd00--7:50052",
	} {
		if got := rpcName(address); got != want {
			t.Errorf("%s: %s, not %s", address, got, want)
		}
	}
}
