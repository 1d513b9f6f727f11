package picture

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"slices"
	"testing"
)

// corners is a picture of four colors, larger than it is high.
func corners(alpha uint8) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, 64, 32))
	for y := range 32 {
		for x := range 64 {
			img.SetNRGBA(x, y, color.NRGBA{uint8(x / 32 * 200), uint8(y / 16 * 200), 100, alpha})
		}
	}
	return img
}

func pngOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// oriented puts Exif data into a JPEG file.
func oriented(data []byte, n uint16, order binary.ByteOrder) []byte {
	tiff := []byte("II*\x00")
	if order == binary.BigEndian {
		tiff = []byte("MM\x00*")
	}
	append16 := func(v uint16) { tiff = append(tiff, 0, 0); order.PutUint16(tiff[len(tiff)-2:], v) }
	append32 := func(v uint32) { tiff = append(tiff, 0, 0, 0, 0); order.PutUint32(tiff[len(tiff)-4:], v) }
	append32(8)
	append16(2)
	for _, entry := range [][2]uint16{{0x010f, 0}, {0x0112, n}} {
		append16(entry[0])
		append16(3)
		append32(1)
		append16(entry[1])
		append16(0)
	}
	append32(0)
	segment := append([]byte("Exif\x00\x00"), tiff...)
	head := []byte{0xff, 0xd8, 0xff, 0xe1, 0, 0}
	binary.BigEndian.PutUint16(head[4:], uint16(len(segment)+2))
	return slices.Concat(head, segment, data[2:])
}

// webpDot is one red pixel, lossless.
const webpDot = "UklGRhwAAABXRUJQVlA4TA8AAAAvAAAAAAcQ/Y/+ByKi/wEA"

func webpFile(t testing.TB) []byte {
	t.Helper()
	dot, err := base64.StdEncoding.DecodeString(webpDot)
	if err != nil {
		t.Fatal(err)
	}
	return dot
}

func gifOf(t testing.TB, n int) []byte {
	t.Helper()
	g := &gif.GIF{}
	for i := range n {
		p := image.NewPaletted(image.Rect(0, 0, 8, 4), palette.Plan9)
		p.Set(i, 0, color.White)
		g.Image = append(g.Image, p)
		g.Delay = append(g.Delay, 1)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecode(t *testing.T) {
	dot := webpFile(t)

	tests := map[string]struct {
		data          []byte
		side          int
		width, height int
		first         [3]int // the first pixel
		last          [3]int
	}{
		"PNG":               {pngOf(t, corners(255)), 0, 64, 32, [3]int{0, 0, 100}, [3]int{200, 200, 100}},
		"JPEG":              {jpegOf(t, corners(255)), 0, 64, 32, [3]int{0, 0, 100}, [3]int{200, 200, 100}},
		"GIF":               {gifOf(t, 1), 0, 8, 4, [3]int{255, 255, 255}, [3]int{0, 0, 0}},
		"WebP":              {dot, 0, 1, 1, [3]int{255, 0, 0}, [3]int{255, 0, 0}},
		"half transparent":  {pngOf(t, corners(127)), 0, 64, 32, [3]int{128, 128, 178}, [3]int{228, 228, 178}},
		"transparent":       {pngOf(t, corners(0)), 0, 64, 32, [3]int{255, 255, 255}, [3]int{255, 255, 255}},
		"made to fit":       {pngOf(t, corners(255)), 16, 16, 8, [3]int{0, 0, 100}, [3]int{200, 200, 100}},
		"never made larger": {pngOf(t, corners(255)), 100, 64, 32, [3]int{0, 0, 100}, [3]int{200, 200, 100}},
		"turned right": {
			oriented(jpegOf(t, corners(255)), 6, binary.LittleEndian),
			0,
			32,
			64,
			[3]int{0, 200, 100},
			[3]int{200, 0, 100},
		},
		"turned left": {
			oriented(jpegOf(t, corners(255)), 8, binary.BigEndian),
			0,
			32,
			64,
			[3]int{200, 0, 100},
			[3]int{0, 200, 100},
		},
		"upside down": {
			oriented(jpegOf(t, corners(255)), 3, binary.BigEndian),
			0,
			64,
			32,
			[3]int{200, 200, 100},
			[3]int{0, 0, 100},
		},
		"turned by nonsense": {
			oriented(jpegOf(t, corners(255)), 9, binary.BigEndian),
			0,
			64,
			32,
			[3]int{0, 0, 100},
			[3]int{200, 200, 100},
		},
	}

	near := func(pixel []byte, want [3]int) bool {
		for i, w := range want {
			if d := int(pixel[i]) - w; d < -6 || d > 6 {
				return false
			}
		}
		return true
	}

	for name, tt := range tests {
		got, err := decoded(tt.data, tt.side)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := len(got.Pixels)
		if got.Width != tt.width || got.Height != tt.height || n != 3*tt.width*tt.height {
			t.Errorf("%s: %d x %d and %d bytes, want %d x %d", name, got.Width, got.Height, n, tt.width, tt.height)
		}
		if !near(got.Pixels[:3], tt.first) || !near(got.Pixels[n-3:], tt.last) {
			t.Errorf("%s: from %v to %v, want %v to %v", name, got.Pixels[:3], got.Pixels[n-3:], tt.first, tt.last)
		}
	}
}

// TestTurn compares every orientation with what it is made of: mirrors and quarter turns.
func TestTurn(t *testing.T) {
	m := &RGB{3, 2, nil}
	for i := range 6 {
		m.Pixels = append(m.Pixels, byte(i), byte(i), byte(i))
	}
	want := map[int]string{
		1: "3x2 012345", 2: "3x2 210543", 3: "3x2 543210", 4: "3x2 345012",
		5: "2x3 031425", 6: "2x3 304152", 7: "2x3 524130", 8: "2x3 251403",
	}
	for n, w := range want {
		turned := m.turn(n)
		got := fmt.Sprintf("%dx%d ", turned.Width, turned.Height)
		for i := 0; i < len(turned.Pixels); i += 3 {
			got += fmt.Sprint(turned.Pixels[i])
		}
		if got != w {
			t.Errorf("orientation %d: got %s, want %s", n, got, w)
		}
	}
}

func pngChunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	body := append([]byte(kind), data...)
	return binary.BigEndian.AppendUint32(append(b, body...), crc32.ChecksumIEEE(body))
}

func webpChunk(kind string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(data)))
	return append(append(b, data...), make([]byte, len(data)%2)...)
}

// claims is a PNG file that says that it has so many pixels, and has none.
func claims(width, height uint32) []byte {
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, width), height)
	return slices.Concat(
		[]byte("\x89PNG\r\n\x1a\n"),
		pngChunk("IHDR", append(header, 8, 2, 0, 0, 0)),
		pngChunk("IDAT", nil),
		pngChunk("IEND", nil),
	)
}

func TestBadImages(t *testing.T) {
	good := pngOf(t, corners(255))
	tests := map[string]struct {
		data []byte
		want error
	}{
		"nothing":          {nil, ErrFormat},
		"text":             {[]byte("hello"), ErrFormat},
		"an SVG":           {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), ErrFormat},
		"a PNG cut off":    {good[:len(good)/2], ErrFormat},
		"a JPEG cut off":   {jpegOf(t, corners(255))[:100], ErrFormat},
		"an animated GIF":  {gifOf(t, 3), ErrFormat},
		"too many pixels":  {claims(10_000, 10_000), ErrSize},
		"far too many":     {claims(1<<31-1, 1<<31-1), ErrFormat}, // Go's decoder refuses it first
		"a line":           {claims(10_000, 1), ErrSize},
		"pixels not there": {claims(100, 100), ErrFormat},
	}
	for name, tt := range tests {
		if _, err := decoded(tt.data, 0); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestFrames(t *testing.T) {
	for n := 1; n < 4; n++ {
		if got := frames(gifOf(t, n)); got != n {
			t.Errorf("%d frames are counted in a GIF of %d", got, n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	dot := webpFile(f)

	for _, data := range [][]byte{pngOf(f, corners(255)), oriented(jpegOf(f, corners(255)), 6, binary.LittleEndian),
		gifOf(f, 2), dot, claims(9, 9)} {
		f.Add(data)
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		frames(data)
		orientation(http.DetectContentType(data), data)
		if kind, err := png.DecodeConfig(bytes.NewReader(data)); err == nil && kind.Width*kind.Height > 1<<20 {
			t.Skip("large, and only slow")
		}

		m, err := decoded(data, 64)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrSize) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}

		if m.Width < 1 || m.Height < 1 || m.Width > 64 || m.Height > 64 || len(m.Pixels) != 3*m.Width*m.Height {
			t.Errorf("%d x %d and %d bytes", m.Width, m.Height, len(m.Pixels))
		}
	})
}

// decoded decodes a file, however many pixels it has.
func decoded(data []byte, side int) (*RGB, error) {
	return Decode(context.Background(), data, side, func(int) error { return nil })
}

// TestDecodingEnds has nobody wait for a picture any more when its decoding begins.
func TestDecodingEnds(t *testing.T) {
	var png, jpg, gif bytes.Buffer
	if err := encodeAll(corners(255), &png, &jpg, &gif); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"PNG": png.Bytes(), "JPEG": jpg.Bytes(), "GIF": gif.Bytes()} {
		ctx, cancel := context.WithCancel(t.Context())
		pixels := 0
		_, err := Decode(ctx, file, 0, func(n int) error {
			pixels = n
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) || pixels != 64*32 {
			t.Errorf("%s: %v with %d pixels", name, err, pixels)
		}
	}

	refused := errors.New("too much")
	if _, err := Decode(t.Context(), png.Bytes(), 0, func(int) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
}

// encodeAll writes an image as files of three types.
func encodeAll(img image.Image, asPNG, asJPEG, asGIF io.Writer) error {
	return errors.Join(png.Encode(asPNG, img), jpeg.Encode(asJPEG, img, nil), gif.Encode(asGIF, img, nil))
}

// TestReaderEnds ends a context while a file is read: a few bytes later there are no more.
func TestReaderEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := (&source{ctx, make([]byte, 1<<20)}).reader()
	if n, err := r.Read(make([]byte, 4096)); n == 0 || n > piece || err != nil {
		t.Errorf("%d bytes at once, %v", n, err)
	}
	cancel()
	if n, err := r.Read(make([]byte, 4096)); n > 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes more, %v", n, err)
	}
}
