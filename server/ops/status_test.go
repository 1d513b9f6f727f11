package ops_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"serve/engine/enginetest"
	"serve/pool"
	"serve/server"
	"serve/server/ops"
	"serve/server/servertest"
)

// TestStatus compares /status with what was asked for.
func TestStatus(t *testing.T) {
	hs, _ := servertest.Start(t, enginetest.Options{}, server.Options{Version: "1.2"})
	get := func() (st ops.Status) {
		t.Helper()
		res, err := http.Get(hs.URL + "/status")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&st); err != nil || len(st.Models) != 1 {
			t.Fatalf("%+v: %v", st, err)
		}
		return st
	}

	if st := get(); st.Version != "1.2" || st.Models[0].State != "not loaded" || st.Models[0].Process != 0 ||
		len(st.Models[0].Aliases) != 2 {
		t.Errorf("before: %+v", st)
	}

	servertest.Post(t, hs, "/v1/completions", `{"model":"fake","prompt":"p","max_tokens":1}`)
	m := get().Models[0]
	if m.State != "ready" || m.Process != 1 || m.ResidentBytes != 1<<20 || m.Loads != 1 ||
		m.Slots != 4 || m.Context != 256 || m.KVCells != 1024 {
		t.Errorf("after: %+v", m)
	}
	if len(m.Memory) != 2 ||
		m.Memory[1] != (pool.MemoryUse{
			Device:  "host",
			Planned: 900 << 10,
			Taken:   1 << 20,
		}) {
		t.Errorf("memory: %+v", m.Memory)
	}
}
