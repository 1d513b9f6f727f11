package openai

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"serve/archive"
	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// createFile answers POST /v1/files. The file is written to the disk as it comes.
func (api *API) createFile(w http.ResponseWriter, r *http.Request) *fault.Error {
	files, e := api.files()
	if e != nil {
		return e
	}
	form, err := r.MultipartReader()
	if err != nil {
		return fault.New(fault.Malformed, "", "The request body must be a form (multipart/form-data).")
	}

	upload := &upload{
		api:    api,
		owner:  ownerOf(r.Context()),
		values: map[string]json.RawMessage{},
	}
	defer upload.discard()
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return formFailed(err)
		}
		_, parameters, _ := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
		if e := upload.read(files, parameters, part); e != nil {
			return e
		}
	}

	f, e := upload.keep(r.Context(), files)
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, newFileBody(f))
}

// formFailed returns the fault for an error of reading a form.
func formFailed(err error) *fault.Error {
	var known *fault.Error
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, context.Canceled) {
		return service.Fault(err, "")
	}
	return fault.New(fault.Malformed, "", "The form in the request body is truncated or malformed: %v.", err)
}

// maxFormValue limits a value of a form, other than the file, in bytes.
const maxFormValue = 4096

// upload is a file that is being stored.
type upload struct {
	api    *API
	owner  archive.Owner
	values map[string]json.RawMessage
	expiry map[string]json.RawMessage // the values of expires_after
	draft  *archive.Draft
}

func (u *upload) discard() {
	if u.draft == nil {
		return
	}
	if err := u.draft.Discard(); err != nil {
		u.api.opts.Log.Error("what was stored of a file is not removed", "error", err)
	}
}

// read reads a part of the form.
func (u *upload) read(files *archive.Files, parameters map[string]string, part io.Reader) *fault.Error {
	name := parameters["name"]
	if name == "file" {
		return u.readFile(files, parameters["filename"], part)
	}

	text, err := io.ReadAll(io.LimitReader(part, maxFormValue+1))
	if err != nil {
		return formFailed(err)
	}
	if len(text) > maxFormValue {
		return fault.New(fault.InvalidValue, name, "Invalid '%s': it is too long (maximum %d bytes).", name, maxFormValue)
	}

	value := json.RawMessage(wire.AppendString(nil, string(text)))
	switch name {
	case "expires_after[seconds]":
		if _, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			value = text
		}
		u.setExpiry("seconds", value)
	case "expires_after[anchor]":
		u.setExpiry("anchor", value)
	default:
		u.values[name] = value
	}
	return nil
}

func (u *upload) setExpiry(name string, value json.RawMessage) {
	if u.expiry == nil {
		u.expiry = map[string]json.RawMessage{}
	}
	u.expiry[name] = value
}

// readFile writes the content to the disk.
func (u *upload) readFile(files *archive.Files, name string, content io.Reader) *fault.Error {
	if u.draft != nil {
		return fault.New(fault.InvalidValue, "file", "Invalid 'file': only one file may be sent.")
	}
	if name == "" || len(name) > maxFileNameBytes {
		return fault.New(fault.InvalidValue, "file",
			"Invalid 'file': it must be a file with a name of 1 to %d bytes.", maxFileNameBytes)
	}

	var err error
	if u.draft, err = files.Draft("file-"+wire.RandomID(), u.owner); err != nil {
		return u.api.fileFailed(err, "")
	}
	u.values["file"] = wire.AppendString(nil, name)
	source := &source{r: content}
	n, err := io.Copy(u.draft, io.LimitReader(source, u.api.opts.MaxFile+1))
	switch {
	case source.err != nil:
		return formFailed(source.err)
	case err != nil:
		return u.api.fileFailed(err, "")
	case n > u.api.opts.MaxFile:
		return fault.New(fault.BodyTooLarge, "file", "The file is larger than %d bytes.", u.api.opts.MaxFile)
	}
	return nil
}

// source is a reader that keeps its error, to tell it from one of the writer.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// keep checks the form, and stores the file.
func (u *upload) keep(ctx context.Context, files *archive.Files) (*archive.File, *fault.Error) {
	if u.expiry != nil {
		b, err := json.Marshal(u.expiry)
		if err != nil {
			return nil, service.Fault(err, "")
		}
		u.values["expires_after"] = b
	}
	body, err := json.Marshal(u.values)
	if err != nil {
		return nil, service.Fault(err, "")
	}

	var req fileRequest
	notes := wire.Notes{Lenient: u.api.opts.Lenient}
	if e := fileFields.Decode(body, &req, &notes); e != nil {
		return nil, e
	}

	f := &u.draft.File
	f.Created = time.Now()
	f.Name = req.name
	f.Purpose = req.purpose
	if req.expires == 0 && req.purpose == purposeBatch {
		req.expires = batchFileTime
	}
	if req.expires > 0 {
		f.Expires = f.Created.Add(req.expires)
	}
	if err := files.Keep(ctx, nil, u.draft); err != nil {
		return nil, u.api.fileFailed(err, f.ID)
	}
	return f, nil
}
