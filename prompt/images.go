package prompt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/picture"
)

// Limits on images.
const (
	maxImages = 128
	maxPixels = 256_000_000 // that are decoded for one conversation
	lowDetail = 512         // pixels per side in low detail
)

// Image is an image in a message.
type Image struct {
	Field     string // the request's field with the image, for errors
	URL       string // a data URL, or the image's location
	LowDetail bool   // scale it down
	Mark      string // the image's placeholder in the message's content, from NewMark
}

// The form of a mark.
const (
	markPrefix = "image-"
	markBytes  = 12
	markLength = len(markPrefix) + 2*markBytes
)

// NewMark returns a placeholder for an image. It is unguessable, so that texts cannot contain it.
func NewMark() string {
	var b [markBytes]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s%x", markPrefix, b)
}

// Fetch downloads the file of an image. Fetched is the number of bytes that have already been
// downloaded for the same conversation.
type Fetch func(ctx context.Context, image *Image, fetched int64) ([]byte, *fault.Error)

// checkImages returns an error if the model cannot process images, or if there are too many.
func (b *Builder) checkImages(images []Image) *fault.Error {
	switch {
	case len(images) == 0:
		return nil
	case !b.Model.Model().Vision:
		return fault.New(fault.Unsupported, images[0].Field,
			"The model '%s' does not accept images: it has no multimodal projector (an mmproj-*.gguf file).", b.Name)
	case len(images) > maxImages:
		return fault.New(fault.ArrayTooLong, images[maxImages].Field,
			"The conversation has too many images: %d (maximum %d).", len(images), maxImages)
	}
	return nil
}

// cut splits a rendered conversation at the marks of its images.
func (b *Builder) cut(ctx context.Context, rendered *engine.Rendered, images []Image) ([]engine.Part, error) {
	sources, err := b.load(ctx, rendered.Prompt, images)
	if err != nil {
		return nil, err
	}
	return cutAt(rendered, images, sources), nil
}

// cutAt splits a rendered conversation at the marks of images, which are opened by the sources.
func cutAt(rendered *engine.Rendered, images []Image, sources []*engine.ImageSource) []engine.Part {
	text := rendered.Prompt
	byMark := map[string]*engine.ImageSource{}
	for i := range images {
		byMark[images[i].Mark] = sources[i]
	}

	part := func(from, to int) engine.Part {
		return engine.Part{Text: text[from:to], Quoted: within(rendered.Quoted, from, to)}
	}
	var parts []engine.Part
	from := 0
	for at := 0; ; {
		i := strings.Index(text[at:], markPrefix)
		if i < 0 {
			last := part(from, len(text))
			if split := rendered.Split; split != nil && split.Text == last.Text {
				last.Split = split.Tokens
			}
			return append(parts, last)
		}
		at += i
		end := at + markLength
		if source, ok := byMark[text[at:min(end, len(text))]]; ok {
			parts = append(parts, part(from, at), engine.Part{Image: source})
			at = end
			from = end
			continue
		}
		at += len(markPrefix)
	}
}

// maxFetches is how many images are fetched for a request.
const maxFetches = 16

// load loads the files of all images. The mark of each must be in the text.
func (b *Builder) load(ctx context.Context, text string, images []Image) ([]*engine.ImageSource, error) {
	sources := make([]*engine.ImageSource, len(images))
	fetched := int64(0)
	decoded := 0
	fetches := 0
	for i := range images {
		image := &images[i]
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !strings.Contains(text, image.Mark) {
			return nil, fault.New(fault.InvalidValue, image.Field,
				"The model's chat template has no place for this image.")
		}

		data, inside, e := image.data()
		if e == nil && !inside {
			if fetches++; fetches > maxFetches {
				return nil, fault.New(fault.ArrayTooLong, image.Field,
					"The request has too many images to fetch (maximum %d). Images can be sent as data URLs.", maxFetches)
			}
			data, e = b.Fetch(ctx, image, fetched)
			fetched += int64(len(data))
		}
		if e != nil {
			return nil, e
		}
		sources[i] = image.source(data, &decoded)
	}
	return sources, nil
}

// data decodes a data URL. inside is false for other URLs.
func (i *Image) data() (file []byte, inside bool, e *fault.Error) {
	scheme, rest, _ := strings.Cut(i.URL, ":")
	if !strings.EqualFold(scheme, "data") {
		return nil, false, nil
	}

	head, body, ok := strings.Cut(rest, ",")
	if !ok || !strings.HasSuffix(strings.ToLower(head), ";base64") {
		return nil, true, fault.New(fault.ImageURL, i.Field,
			"Invalid '%s': an image's data URL must have the form data:image/…;base64,…", i.Field)
	}

	// The decoders of Python and JavaScript ignore these, too.
	body = strings.NewReplacer("\n", "", "\r", "", " ", "").Replace(body)
	file, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(body, "="))
	if err != nil {
		return nil, true, fault.New(fault.ImageBase64, i.Field,
			"Invalid '%s': the data URL is not valid Base64.", i.Field)
	}
	if len(file) == 0 {
		return nil, true, fault.New(fault.ImageEmpty, i.Field, "Invalid '%s': the image is empty.", i.Field)
	}
	return file, true, nil
}

// source returns the image for the engine, which decodes it only if it is not cached. Decoded counts the pixels of a
// conversation's images that were.
func (i *Image) source(file []byte, decoded *int) *engine.ImageSource {
	side := 0
	if i.LowDetail {
		side = lowDetail
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d ", side)
	h.Write(file)

	open := func(ctx context.Context) (*engine.Bitmap, error) {
		rgb, err := picture.Decode(ctx, file, side, func(pixels int) error {
			if *decoded += pixels; *decoded > maxPixels {
				return fault.New(fault.ImageTooLarge, i.Field,
					"The images of the conversation have more than %d million pixels in all.", maxPixels/1_000_000)
			}
			return nil
		})
		var refused *fault.Error
		switch {
		case errors.As(err, &refused):
			return nil, refused
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, picture.ErrSize):
			return nil, fault.New(fault.ImageTooLarge, i.Field, "Invalid image in '%s': %v.", i.Field, err)
		case err != nil:
			return nil, fault.New(fault.ImageFormat, i.Field, "Invalid image in '%s': %v.", i.Field, err)
		}
		return &engine.Bitmap{Width: rgb.Width, Height: rgb.Height, Pixels: rgb.Pixels}, nil
	}
	return &engine.ImageSource{Key: engine.ImageKey(h.Sum(nil)), Open: open}
}
