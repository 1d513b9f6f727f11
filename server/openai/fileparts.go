package openai

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"serve/fault"
	"serve/server/wire"
)

// readFile reads a file of text as chat completions have it, {"file":{"file_data":…}}, and as responses
// do, {"file_data":…}. It becomes a text that begins with the file's name.
func readFile(part wire.Value, object map[string]wire.Value) (string, *fault.Error) {
	if field, nested := object["file"]; nested {
		wire.Others(object, "type", "file")
		inner, e := field.Object()
		if e != nil {
			return "", e
		}
		part = field
		object = inner
	}

	wire.Others(object, "type", "filename", "file_data", "file_id", "file_url", "detail")
	if field, ok := object["file_url"]; ok {
		return "", fault.New(fault.Unsupported, field.Name,
			"Unsupported parameter: '%s'. Files are not downloaded; send the content as 'file_data'.", field.Name)
	}

	name, e := wire.OptionalText(object, "filename")
	if e != nil {
		return "", e
	}
	if field, ok := object["file_id"]; ok {
		return readStoredFile(field, name)
	}
	data, e := part.Required(object, "file_data")
	if e != nil {
		return "", e
	}
	text, e := readFileData(data)
	return headed(name, text), e
}

// headed returns the text of a file after its name, if it has one.
func headed(name, text string) string {
	if name == "" {
		return text
	}
	return "File " + name + ":\n" + text
}

// readStoredFile reads a stored file of text by its ID. It has the name that it is given here, or that it
// was stored by.
func readStoredFile(id wire.Value, name string) (string, *fault.Error) {
	stored, content, e, has := id.File()
	switch {
	case !has:
		return "", fault.New(fault.Unsupported, id.Name, "Unsupported parameter: '%s'. This server does not store files; "+
			"send the content as 'file_data', or start serve with --data-dir.", id.Name)
	case e != nil:
		return "", e
	}
	text, e := fileText(id, content)
	return headed(cmp.Or(name, stored), text), e
}

// readFileData reads the content of a file of text: a data URL, or its base64 alone.
func readFileData(v wire.Value) (string, *fault.Error) {
	given, e := v.Text()
	if e != nil {
		return "", e
	}

	encoded := given
	if rest, isURL := strings.CutPrefix(given, "data:"); isURL {
		kind, data, _ := strings.Cut(rest, ",")
		if !strings.HasSuffix(kind, ";base64") {
			return "", v.Invalid("a data URL must have the form data:...;base64,...")
		}
		encoded = data
	}
	content, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", v.Invalid("it is not valid Base64.")
	}

	return fileText(v, content)
}

// fileText returns the text of a file; v is what it came as.
func fileText(v wire.Value, content []byte) (string, *fault.Error) {
	switch {
	case bytes.HasPrefix(content, []byte("%PDF")):
		return "", fault.New(fault.Unsupported, v.Name,
			"Unsupported parameter: '%s'. PDF files are not supported; send their text, or images of their pages.", v.Name)
	case !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0:
		return "", fault.New(fault.Unsupported, v.Name,
			"Unsupported parameter: '%s'. Only UTF-8 text files are supported.", v.Name)
	}
	return string(content), nil
}
