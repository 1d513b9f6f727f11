package openai

import (
	"bytes"
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
	for _, name := range []string{"file_id", "file_url"} {
		if field, ok := object[name]; ok {
			return "", fault.New(fault.Unsupported, field.Name,
				"Unsupported parameter: '%s'. File uploads are not supported; send the content as 'file_data'.", field.Name)
		}
	}

	name, e := wire.OptionalText(object, "filename")
	if e != nil {
		return "", e
	}
	data, e := part.Required(object, "file_data")
	if e != nil {
		return "", e
	}
	text, e := readFileData(data)
	if e != nil || name == "" {
		return text, e
	}
	return "File " + name + ":\n" + text, nil
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
			return "", v.Invalid("it must be a Base64 data URL.")
		}
		encoded = data
	}
	content, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", v.Invalid("it is not valid Base64.")
	}

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
