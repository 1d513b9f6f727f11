package openai

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Limits of the input of a batch. That of a line is the server's of a request.
const (
	maxBatchLines    = 50_000
	maxBatchErrors   = 100
	maxCustomIDBytes = 512
	maxLineOverhead  = 4096 // what a line has besides the body of its request, in bytes
)

// lineReader reads lines of JSON.
type lineReader struct {
	r     *bufio.Reader
	limit int // most bytes of a line
	line  int // number of the line that was read last, from 1
	bytes int64
}

// errLongLine means that a line has more bytes than allowed. The next one can be read.
var errLongLine = errors.New("the line is too long")

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 1<<16), limit: limit}
}

// next returns the next line that is not blank, without its end. The error is io.EOF after the last one.
// Ended says that the line has an end: a line that was cut off while it was written has none.
func (l *lineReader) next() (text []byte, ended bool, err error) {
	for {
		text, ended, err = l.any()
		if err != nil || len(bytes.TrimSpace(text)) > 0 {
			return text, ended, err
		}
		if !ended {
			return nil, false, io.EOF
		}
	}
}

// any returns the next line, which may be blank.
func (l *lineReader) any() (text []byte, ended bool, err error) {
	l.line++
	size := 0
	for {
		part, err := l.r.ReadSlice('\n')
		l.bytes += int64(len(part))
		size += len(part)
		if size <= l.limit {
			text = append(text, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (!errors.Is(err, io.EOF) || size == 0) {
			return nil, false, err
		}
		if size > l.limit {
			return nil, err == nil, errLongLine
		}
		return bytes.TrimSuffix(text, []byte("\n")), err == nil, nil
	}
}

// batchLine is a line of a batch's input: a request.
type batchLine struct {
	number int
	id     string
	body   json.RawMessage
}

// batchError is an error in the input of a batch.
type batchError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Param   *string `json:"param"`
	Line    *int    `json:"line"`
}

func newBatchError(code, param string, line int, format string, args ...any) *batchError {
	e := &batchError{Code: code, Message: fmt.Sprintf(format, args...), Param: optional(param)}
	if line > 0 {
		e.Line = &line
	}
	return e
}

// parseLine reads a line of a batch whose requests are for an endpoint.
func parseLine(text []byte, number int, endpoint string) (*batchLine, *batchError) {
	if number == 1 {
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	var fields map[string]json.RawMessage
	if !utf8.Valid(text) || json.Unmarshal(text, &fields) != nil || fields == nil {
		return nil, newBatchError("invalid_json_line", "", number,
			"Each line must be one complete JSON object in UTF-8.")
	}

	line := &batchLine{number: number, body: fields["body"]}
	var e *batchError
	if line.id, e = lineText(fields, "custom_id", number); e != nil {
		return nil, e
	}
	for _, must := range [][2]string{{"method", "POST"}, {"url", endpoint}} {
		value, e := lineText(fields, must[0], number)
		if e != nil {
			return nil, e
		}
		if value != must[1] {
			return nil, newBatchError("invalid_"+must[0], must[0], number,
				"Invalid '%s': expected '%s', but got '%.100s' instead.", must[0], must[1], value)
		}
	}

	switch {
	case line.id == "" || len(line.id) > maxCustomIDBytes:
		return nil, newBatchError("invalid_custom_id", "custom_id", number,
			"Invalid 'custom_id': it must be a string of 1 to %d bytes.", maxCustomIDBytes)
	case len(line.body) == 0:
		return nil, newBatchError("missing_required_parameter", "body", number, "Missing required parameter: 'body'.")
	case line.body[0] != '{':
		return nil, newBatchError("invalid_type", "body", number, "Invalid type for 'body': expected an object.")
	}
	return line, nil
}

// lineText returns a required text of a line.
func lineText(fields map[string]json.RawMessage, name string, number int) (text string, e *batchError) {
	raw, ok := fields[name]
	if !ok || string(raw) == "null" {
		return "", newBatchError("missing_required_parameter", name, number, "Missing required parameter: '%s'.", name)
	}
	if json.Unmarshal(raw, &text) != nil {
		return "", newBatchError("invalid_type", name, number, "Invalid type for '%s': expected a string.", name)
	}
	return text, nil
}

// options are the fields of a request in a batch that matter to the batch.
type lineOptions struct {
	Model      json.RawMessage `json:"model"`
	Stream     json.RawMessage `json:"stream"`
	Background json.RawMessage `json:"background"`
}

func (l *batchLine) options() (o lineOptions) {
	_ = json.Unmarshal(l.body, &o) // it is an object
	return o
}

// batchInput is what validation finds out about the input of a batch.
type batchInput struct {
	total  int
	model  string
	errors []*batchError
}

// validateInput reads all lines of a batch's input. A line may have limit bytes. The error is one of
// reading.
func validateInput(r io.Reader, endpoint string, limit int) (*batchInput, error) {
	in := &batchInput{}
	ids := map[string]int{} // their lines
	lines := newLineReader(r, limit)

	for len(in.errors) < maxBatchErrors {
		text, _, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			if in.total == 0 {
				in.add(newBatchError("empty_file", "", 0, "The file has no requests."))
			}
			return in, nil
		case errors.Is(err, errLongLine):
			in.add(newBatchError("line_too_long", "", lines.line, "The line has more than %d bytes.", limit))
		case err != nil:
			return nil, err
		default:
			line, e := parseLine(text, lines.line, endpoint)
			in.add(e)
			in.check(line, ids)
		}

		if in.total++; in.total > maxBatchLines {
			in.add(newBatchError("too_many_requests", "", 0, "The file has more than %d requests.", maxBatchLines))
			return in, nil
		}
	}
	return in, nil
}

func (in *batchInput) add(e *batchError) {
	if e != nil {
		in.errors = append(in.errors, e)
	}
}

// check compares a line with those before it. All of them are for one model, so that a batch does not
// have models change places in memory for each of its lines.
func (in *batchInput) check(line *batchLine, ids map[string]int) {
	if line == nil {
		return
	}
	if first, taken := ids[line.id]; taken {
		in.add(newBatchError("duplicate_custom_id", "custom_id", line.number,
			"Duplicate 'custom_id': line %d has the same one.", first))
		return
	}

	var model string
	_ = json.Unmarshal(line.options().Model, &model) // what is no text is an error of the line when it runs
	if len(ids) == 0 {
		in.model = model
	}
	ids[line.id] = line.number
	if model != in.model {
		in.add(newBatchError("mismatched_model", "body.model", line.number,
			"All requests in a batch must be for the same model; the first one is for '%.100s'.", in.model))
	}
}
