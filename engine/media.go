package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Bitmap is a decoded image.
type Bitmap struct {
	Width, Height int
	Pixels        []byte // red, green, blue; row by row, Width*Height*3 bytes
}

// Media is what a model reads in place of tokens: the embeddings of an image, or
// of a tile of one. It does not change once it is made.
type Media struct {
	// ID stands for each of the embeddings in a prompt. It is negative, and equal
	// only for the same tile of the same image.
	ID         Token
	Embeddings []float32 // Len x Model.InputSize
	Len        int       // embeddings, so KV cells
	Span       int       // positions: Len, or fewer where they lie on a grid
	// Grid is nil, or where each embedding lies relative to the first, by M-RoPE: Len
	// times the first coordinate, then the second, the third and the fourth.
	Grid  []int32
	Whole bool // each sees all the others, so that one batch must hold them
}

// Chunk is a piece of an image as a model reads it: tokens that its projector puts
// around it, or embeddings.
type Chunk struct {
	Tokens []Token
	Media  *Media
}

// Part is a piece of a prompt: text, or an image.
type Part struct {
	Text   string
	Quoted []Range // of the text; see Reading
	Split  []Token // of a text that is the whole prompt, if they are known; see Rendered.Split
	Image  *ImageSource
}

// ImageSource opens an image that is not in the cache.
type ImageSource struct {
	Key  ImageKey
	Open func(context.Context) (*Bitmap, error)
}

// ImageKey is equal only for the same image: a hash of its file, and of how it is read.
type ImageKey [32]byte

// span is where media lies among tokens, which hold its ID Len times.
type span struct {
	at int
	*Media
}

// spans finds the media of a prompt.
func spans(prompt []Token, media []*Media) ([]span, error) {
	var list []span
	for i := 0; i < len(prompt); {
		if prompt[i] >= 0 {
			i++
			continue
		}
		if len(list) == len(media) {
			return nil, fmt.Errorf("%w: the image of token %d is missing", ErrRequest, prompt[i])
		}
		s := span{i, media[len(list)]}
		if i += s.Len; i >= len(prompt) {
			return nil, fmt.Errorf("%w: the prompt ends in an image", ErrRequest)
		}
		if slices.ContainsFunc(prompt[s.at:i], func(t Token) bool { return t != s.ID }) {
			return nil, fmt.Errorf("%w: an image of %d embeddings contains other tokens", ErrRequest, s.Len)
		}
		list = append(list, s)
	}
	if len(list) < len(media) {
		return nil, fmt.Errorf("%w: %d images, but the prompt refers to %d", ErrRequest, len(media), len(list))
	}
	return list, nil
}

// position returns the position of the token at index i, which is not inside of media.
func position(list []span, i int) int {
	p := i
	for _, s := range list {
		if i < s.at+s.Len {
			break
		}
		p -= s.Len - s.Span
	}
	return p
}

// boundary returns i, or where the media begins that i is inside of: a part of its
// embeddings is of no use.
func boundary(list []span, i int) int {
	for _, s := range list {
		if s.at < i && i < s.at+s.Len {
			return s.at
		}
	}
	return i
}

// Prompt makes tokens of text and images, as a model reads a prompt: control tokens
// are read as such but for what is quoted, and what belongs at its ends is put there. It fails with a
// LengthError when there would be more than limit, with ErrCannot when the model
// has no image input, with what an image cannot be opened for, and when ctx is done, which it
// notices between images.
func (e *Engine) Prompt(
	ctx context.Context, by Caller, parts []Part, limit int,
) (tokens []Token, media []*Media, err error) {
	if len(parts) == 1 && parts[0].Image == nil {
		if parts[0].Split != nil {
			return parts[0].Split, nil, e.checkText(parts[0].Text, limit)
		}
		tokens, err = e.Tokenize(ctx, by, parts[0].Text, ReadPrompt(parts[0].Quoted), limit)
		return tokens, nil, err
	}

	marks := e.runner.Model().Marks
	if marks.AddBOS {
		tokens = append(tokens, marks.BOS)
	}

	for _, part := range parts {
		room := limit - len(tokens)
		if part.Image == nil {
			text, err := e.Tokenize(ctx, by, part.Text, Reading{Control: true, Quoted: part.Quoted}, room)
			if err != nil {
				return nil, nil, lengthWith(err, len(tokens), limit)
			}
			tokens = append(tokens, text...)
			continue
		}
		chunks, err := e.encodeImage(ctx, by, part.Image, room)
		if err != nil {
			return nil, nil, lengthWith(err, len(tokens), limit)
		}
		for _, c := range chunks {
			tokens = append(tokens, c.Tokens...)
			if c.Media != nil {
				tokens = append(tokens, slices.Repeat([]Token{c.Media.ID}, c.Media.Len)...)
				media = append(media, c.Media)
			}
		}
	}

	if marks.AddEOS {
		tokens = append(tokens, marks.EOS)
	}
	if len(tokens) > limit {
		return nil, nil, &LengthError{Tokens: len(tokens), Limit: limit}
	}

	return tokens, media, nil
}

// lengthWith makes a part's LengthError one of the whole prompt, which had so many
// tokens before it.
func lengthWith(err error, before, limit int) error {
	var length *LengthError
	if errors.As(err, &length) {
		return &LengthError{Tokens: before + length.Tokens, Limit: limit, AtLeast: true}
	}
	return err
}

// encodeImage encodes an image, unless its embeddings are cached. One is encoded at a time. It is decoded before:
// one that takes long to decode keeps no other waiting.
func (e *Engine) encodeImage(ctx context.Context, by Caller, source *ImageSource, room int) ([]Chunk, error) {
	if !e.runner.Model().Vision {
		return nil, fmt.Errorf("%w: it has no image input", ErrCannot)
	}
	if chunks, ok := e.images.recall(by.Tenant, source.Key); ok {
		return chunks, nil
	}

	img, err := source.Open(ctx)
	if err != nil {
		return nil, err
	}

	select {
	case e.images.busy <- struct{}{}:
		defer func() { <-e.images.busy }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}

	if chunks, ok := e.images.recall(by.Tenant, source.Key); ok {
		return chunks, nil
	}

	if err := e.hold(); err != nil {
		return nil, err
	}
	defer e.calls.Done()
	chunks, err := e.runner.EncodeImage(img, room)
	if err != nil {
		return nil, ended(err)
	}

	for _, c := range chunks {
		if c.Media != nil && c.Media.Whole && c.Media.Len > e.limits.Batch {
			return nil, fmt.Errorf("%w: the image has %d embeddings, which must be in one batch (maximum %d)",
				ErrCannot, c.Media.Len, e.limits.Batch)
		}
	}

	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // its tenant may have been forgotten meanwhile
	}
	return chunks, e.images.remember(by.Tenant, source.Key, chunks)
}
