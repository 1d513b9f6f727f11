package server

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/picture"
	"serve/pool"
	"serve/server/wire"
)

// Limits on images.
const (
	maxImages    = 128
	lowDetail    = 512 // pixels of a side, as OpenAI's detail "low" says
	fetchTimeout = 30 * time.Second
	maxRedirects = 5
)

// attachment is an image of a message.
type attachment struct {
	field string // as errors spell it
	url   string
	low   bool   // look at it in little detail
	mark  string // stands for it in the message's text; nobody can guess it
}

// readImage reads an image as chat completions have it, {"image_url":{"url":…}}, and
// as responses do, {"image_url":…}.
func readImage(part wire.Value, object map[string]wire.Value) (a attachment, e *fault.Error) {
	a.mark = "image-" + randomID()
	if id, ok := object["file_id"]; ok {
		return a, fault.New(fault.Unsupported, id.Name, "Unsupported parameter: '%s'. There are no files here; give the image as a data URL.", id.Name)
	}
	image, e := part.Required(object, "image_url")
	if e != nil {
		return a, e
	}
	if image.Raw[0] == '{' {
		if object, e = image.Object(); e != nil {
			return a, e
		}
		if e := wire.Only(object, "url", "detail"); e != nil {
			return a, e
		}
		if image, e = image.Required(object, "url"); e != nil {
			return a, e
		}
	}
	a.field = image.Name
	if a.url, e = image.Text(); e != nil {
		return a, e
	}
	if detail, ok := object["detail"]; ok {
		// A model looks at an image in its own detail, unless that is to be little.
		level, e := detail.OneOf("auto", "low", "high", "original")
		a.low = level == "low"
		return a, e
	}
	return a, nil
}

// images are those of the conversation, in order.
func (r *chatRequest) images() (all []attachment) {
	for i := range r.messages {
		all = append(all, r.messages[i].Images...)
	}
	return all
}

// checkImages refuses images that cannot be looked at, whatever they show.
func checkImages(model *pool.Lease, images []attachment) *fault.Error {
	switch {
	case len(images) == 0:
		return nil
	case !model.Engine.Model().Sees:
		return fault.New(fault.Unsupported, images[0].field, "The model '%s' does not see images: it has no projector (a file mmproj-*.gguf).", model.ID)
	case len(images) > maxImages:
		return fault.New(fault.ArrayTooLong, images[maxImages].field, "The conversation has %d images, where %d are allowed.", len(images), maxImages)
	}
	return nil
}

// imageLoader brings the files of images.
type imageLoader struct {
	hosts  []string
	limit  int64 // bytes fetched for a request
	client *http.Client
}

func newImageLoader(o *Options) *imageLoader {
	l := &imageLoader{hosts: o.ImageHosts, limit: o.MaxBody}
	l.client = &http.Client{Transport: o.ImageTransport, Timeout: fetchTimeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return l.allows(r.URL)
	}}
	return l
}

// allows says whether a URL may be fetched.
func (l *imageLoader) allows(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%.20q is no scheme of images", u.Scheme)
	case !slices.Contains(l.hosts, u.Host) && !slices.Contains(l.hosts, u.Hostname()):
		return fmt.Errorf("the server fetches nothing from %.100q; who runs it can allow that with --image-host", u.Host)
	}
	return nil
}

// parts cuts a prompt at the marks of images.
func (l *imageLoader) parts(ctx context.Context, prompt string, images []attachment) ([]engine.Part, error) {
	sources := make([]*engine.ImageSource, len(images))
	left := l.limit
	for i := range images {
		if !strings.Contains(prompt, images[i].mark) {
			return nil, fault.New(fault.InvalidValue, images[i].field, "The model's chat template has no place for this image.")
		}
		data, e := l.file(ctx, &images[i], &left)
		if e != nil {
			return nil, e
		}
		sources[i] = images[i].source(data)
	}
	var parts []engine.Part
	for {
		next, at := -1, len(prompt)
		for i := range images {
			if k := strings.Index(prompt, images[i].mark); k >= 0 && k < at {
				next, at = i, k
			}
		}
		parts = append(parts, engine.Part{Text: prompt[:at]})
		if next < 0 {
			return parts, nil
		}
		parts = append(parts, engine.Part{Image: sources[next]})
		prompt = prompt[at+len(images[next].mark):]
	}
}

// source is the image for the model, decoded only if the model does not remember it.
func (a *attachment) source(data []byte) *engine.ImageSource {
	side := 0
	if a.low {
		side = lowDetail
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d ", side)
	h.Write(data)
	return &engine.ImageSource{Key: engine.ImageKey(h.Sum(nil)), Open: func() (*engine.Image, error) {
		rgb, err := picture.Decode(data, side)
		switch {
		case errors.Is(err, picture.ErrSize):
			return nil, fault.New(fault.ImageTooLarge, a.field, "Invalid image in '%s': %v.", a.field, err)
		case err != nil:
			return nil, fault.New(fault.ImageFormat, a.field, "Invalid image in '%s': %v.", a.field, err)
		}
		return &engine.Image{Width: rgb.Width, Height: rgb.Height, Pixels: rgb.Pixels}, nil
	}}
}

// file returns an image's file. What is fetched is taken from left.
func (l *imageLoader) file(ctx context.Context, a *attachment, left *int64) ([]byte, *fault.Error) {
	scheme, rest, _ := strings.Cut(a.url, ":")
	if !strings.EqualFold(scheme, "data") {
		return l.fetch(ctx, a, left)
	}
	head, body, ok := strings.Cut(rest, ",")
	if !ok || !strings.HasSuffix(strings.ToLower(head), ";base64") {
		return nil, fault.New(fault.ImageURL, a.field, "Invalid '%s': a data URL of an image is data:image/…;base64,…", a.field)
	}
	// Decoders of Python and JavaScript both pass over these.
	body = strings.NewReplacer("\n", "", "\r", "", " ", "").Replace(body)
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(body, "="))
	if err != nil {
		return nil, fault.New(fault.ImageBase64, a.field, "Invalid '%s': the data URL is not valid Base64.", a.field)
	}
	if len(data) == 0 {
		return nil, fault.New(fault.ImageEmpty, a.field, "Invalid '%s': the image is empty.", a.field)
	}
	return data, nil
}

// fetch brings an image from one of the hosts that are allowed.
func (l *imageLoader) fetch(ctx context.Context, a *attachment, left *int64) ([]byte, *fault.Error) {
	u, err := url.Parse(a.url)
	if err == nil {
		err = l.allows(u)
	}
	if err != nil {
		return nil, fault.New(fault.ImageURL, a.field, "Invalid '%s': %v. An image can be given as a data URL.", a.field, err)
	}
	failed := func(format string, args ...any) *fault.Error {
		return fault.New(fault.ImageUnreachable, a.field, "The image of '%s' could not be fetched: %s.", a.field, fmt.Sprintf(format, args...))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, failed("%v", err)
	}
	answer, err := l.client.Do(r)
	if err != nil {
		// The URL, which the error quotes, may have a key in it.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, failed("%v", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, failed("the host says %s", answer.Status)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, *left+1))
	switch {
	case err != nil:
		return nil, failed("%v", err)
	case int64(len(data)) > *left:
		return nil, fault.New(fault.ImageFileTooBig, a.field, "The images of the request are larger than the %d bytes that a request may have.", l.limit)
	case len(data) == 0:
		return nil, fault.New(fault.ImageEmpty, a.field, "The image of '%s' is empty.", a.field)
	}
	*left -= int64(len(data))
	return data, nil
}
