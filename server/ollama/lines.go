package ollama

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"serve/server/wire"
	"serve/service"
)

// lineStall is how long a client may take to accept a line before it is considered gone.
const lineStall = 2 * time.Minute

// shortDigest is the number of digits by which people know a file.
const shortDigest = 12

// lines writes objects a line that are no answer of a model: how a download goes on. It is used by one
// goroutine at a time.
type lines struct {
	ctx    context.Context // ends when the client is gone
	cancel context.CancelFunc
	w      http.ResponseWriter
	ctrl   *http.ResponseController
}

func newLines(w http.ResponseWriter, r *http.Request) *lines {
	ctx, cancel := context.WithCancel(r.Context())
	h := w.Header()
	h.Set("Content-Type", streamType)
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	return &lines{ctx: ctx, cancel: cancel, w: w, ctrl: http.NewResponseController(w)}
}

// close resets what concerns the connection, which is reused.
func (l *lines) close() {
	l.cancel()
	_ = l.ctrl.SetWriteDeadline(time.Time{})
}

// write writes a line. What cannot be written ends the work.
func (l *lines) write(line []byte) {
	_ = l.ctrl.SetWriteDeadline(time.Now().Add(lineStall)) // not every ResponseWriter has deadlines
	_, err := l.w.Write(append(line, '\n'))
	if err == nil {
		err = l.ctrl.Flush()
	}
	if err != nil {
		l.cancel()
	}
}

func (l *lines) status(text string) { l.write(appendStatus(nil, text)) }

// progress writes how a file goes on.
func (l *lines) progress(p service.PullProgress) {
	if p.Note != "" {
		l.status(p.Note)
		return
	}

	name := p.File
	if len(p.SHA256) > shortDigest {
		name = p.SHA256[:shortDigest]
	}
	b := wire.AppendString([]byte(`{"status":`), "pulling "+name)
	if p.SHA256 != "" {
		b = append(append(append(b, `,"digest":"sha256:`...), p.SHA256...), '"')
	}
	b = strconv.AppendInt(append(b, `,"total":`...), p.Bytes, 10)
	l.write(append(appendNumber(b, "completed", p.Done), '}'))
}
