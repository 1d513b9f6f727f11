package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// flatPlane is a plane of a test's image: blocks of one value each.
type flatPlane struct {
	id, h, v byte
	value    func(x, y int) byte // of the pixel in a block's middle
}

// quadrants has a value for each quarter of an image.
func quadrants(size int, topLeft, topRight, bottomLeft, bottomRight byte) func(x, y int) byte {
	return func(x, y int) byte {
		return []byte{topLeft, topRight, bottomLeft, bottomRight}[min(x/(size/2), 1)+2*min(y/(size/2), 1)]
	}
}

// bitWriter writes the data of a scan.
type bitWriter struct {
	out  []byte
	bits uint32
	n    int
}

func (w *bitWriter) write(v, n int) {
	for i := n - 1; i >= 0; i-- {
		w.bits = w.bits<<1 | uint32(v>>i&1)
		if w.n++; w.n == 8 {
			w.out = append(w.out, byte(w.bits))
			if byte(w.bits) == 0xff {
				w.out = append(w.out, 0)
			}
			w.n = 0
			w.bits = 0
		}
	}
}

// block writes a block that has only a first coefficient, by its difference to the one before.
func (w *bitWriter) block(difference int) {
	size := 0
	for n := max(difference, -difference); n > 0; n >>= 1 {
		size++
	}
	w.write(size, 4)
	if difference < 0 {
		difference += 1<<size - 1
	}
	w.write(difference, size)
	w.write(0, 1)
}

// flatJPEG encodes a square image without any application's marks. Apart has each plane in a scan of its own.
func flatJPEG(size int, planes []flatPlane, apart bool) []byte {
	segment := func(marker byte, body ...byte) []byte {
		return slices.Concat([]byte{0xff, marker, 0, byte(len(body) + 2)}, body)
	}
	tables := slices.Repeat([]byte{8}, 64)
	frame := []byte{8, 0, byte(size), 0, byte(size), byte(len(planes))}
	hMax := 1
	vMax := 1
	for _, p := range planes {
		frame = append(frame, p.id, p.h<<4|p.v, 0)
		hMax = max(hMax, int(p.h))
		vMax = max(vMax, int(p.v))
	}

	file := slices.Concat(
		[]byte{0xff, markSOI},
		segment(markDQT, slices.Concat([]byte{0}, tables)...),
		segment(markSOF0, frame...),
		segment(markDHT, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
		segment(markDHT, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
	)

	scans := [][]flatPlane{planes}
	if apart {
		scans = nil
		for _, p := range planes {
			scans = append(scans, []flatPlane{p})
		}
	}
	for _, list := range scans {
		header := []byte{byte(len(list))}
		for _, p := range list {
			header = append(header, p.id, 0)
		}
		file = slices.Concat(file, segment(markSOS, append(header, 0, 63, 0)...), flatScan(size, hMax, vMax, list))
	}
	return append(file, 0xff, markEOI)
}

func flatScan(size, hMax, vMax int, list []flatPlane) []byte {
	w := &bitWriter{}
	before := make([]int, len(list))
	block := func(i, x, y int) {
		p := list[i]
		wide := 8 * hMax / int(p.h)
		high := 8 * vMax / int(p.v)
		v := int(p.value(x*wide+wide/2, y*high+high/2)) - 128
		w.block(v - before[i])
		before[i] = v
	}

	if len(list) == 1 {
		across := ceil(ceil(size*int(list[0].h), hMax), 8)
		down := ceil(ceil(size*int(list[0].v), vMax), 8)
		for y := range down {
			for x := range across {
				block(0, x, y)
			}
		}
	} else {
		for my := range ceil(size, 8*vMax) {
			for mx := range ceil(size, 8*hMax) {
				for i, p := range list {
					for v := range int(p.v) {
						for h := range int(p.h) {
							block(i, mx*int(p.h)+h, my*int(p.v)+v)
						}
					}
				}
			}
		}
	}

	w.write(1<<7-1, 7)
	return w.out
}

// samplings are those of planes that files have, as digits: across, down.
var samplings = map[string][][2]byte{
	"whole":                    {{1, 1}, {1, 1}, {1, 1}},
	"4:2:0":                    {{2, 2}, {1, 1}, {1, 1}},
	"4:1:0":                    {{4, 2}, {1, 1}, {1, 1}},
	"three to one":             {{3, 1}, {1, 1}, {1, 1}},
	"three to two":             {{3, 2}, {2, 1}, {2, 1}},
	"four down":                {{1, 4}, {1, 1}, {1, 1}},
	"four by four":             {{4, 4}, {1, 1}, {2, 2}},
	"chroma unlike":            {{2, 2}, {2, 1}, {1, 1}},
	"chroma across each other": {{2, 2}, {2, 1}, {1, 2}},
	"only red is whole":        {{1, 1}, {1, 1}, {2, 2}},
	"only blue is whole":       {{1, 2}, {2, 2}, {1, 1}},
	"chroma finer than luma":   {{1, 1}, {2, 2}, {2, 2}},
}

// TestSamplings decodes images of four colors whose planes are sampled in every way.
func TestSamplings(t *testing.T) {
	const size = 192
	for name, sampling := range samplings {
		for _, apart := range []bool{false, true} {
			planes := []flatPlane{
				{1, sampling[0][0], sampling[0][1], quadrants(size, 76, 150, 29, 200)},
				{2, sampling[1][0], sampling[1][1], quadrants(size, 85, 44, 255, 128)},
				{3, sampling[2][0], sampling[2][1], quadrants(size, 255, 21, 107, 128)},
			}
			m, err := decoded(flatJPEG(size, planes, apart), 0)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}

			for _, at := range [][2]int{{0, 0}, {95, 95}, {96, 95}, {95, 96}, {96, 96}, {191, 0}, {0, 191}, {191, 191}} {
				x := at[0]
				y := at[1]
				r, g, b := color.YCbCrToRGB(planes[0].value(x, y), planes[1].value(x, y), planes[2].value(x, y))
				if got := m.Pixels[3*(y*size+x):][:3]; distance(got, []byte{r, g, b}) > 2 {
					t.Errorf("%s, apart %v: at %d,%d %v, want %v", name, apart, x, y, got, []byte{r, g, b})
				}
			}
		}
	}
}

// TestInks decodes images of four planes without Adobe's mark: they are amounts of ink, and not inverted.
func TestInks(t *testing.T) {
	const size = 64
	for _, sampling := range [][4][2]byte{
		{{1, 1}, {1, 1}, {1, 1}, {1, 1}},
		{{2, 2}, {1, 1}, {1, 1}, {2, 2}},
		{{1, 1}, {2, 1}, {1, 1}, {1, 2}},
	} {
		var planes []flatPlane
		for i, values := range [][4]byte{{0, 255, 0, 0}, {255, 0, 0, 0}, {255, 255, 0, 0}, {0, 0, 0, 255}} {
			value := quadrants(size, values[0], values[1], values[2], values[3])
			planes = append(planes, flatPlane{byte(i + 1), sampling[i][0], sampling[i][1], value})
		}

		m, err := decoded(flatJPEG(size, planes, false), 0)
		if err != nil {
			t.Errorf("%v: %v", sampling, err)
			continue
		}
		for at, want := range map[[2]int][]byte{
			{0, 0}: {255, 0, 0}, {63, 0}: {0, 255, 0}, {0, 63}: {255, 255, 255}, {63, 63}: {0, 0, 0},
		} {
			if got := m.Pixels[3*(at[1]*size+at[0]):][:3]; distance(got, want) > 2 {
				t.Errorf("%v: at %v %v, want %v", sampling, at, got, want)
			}
		}
	}
}

func distance(a, b []byte) (most int) {
	for i := range a {
		d := int(a[i]) - int(b[i])
		most = max(most, d, -d)
	}
	return most
}

// TestAgrees compares our decoder with Go's, on files that both read: progressive ones, ones with restarts,
// of one, three and four planes, written by libjpeg.
func TestAgrees(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jpg")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(name, err)
		}

		f := jpegFile{ctx: t.Context(), data: data, adobe: -1}
		if err := f.read(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := f.image()
		if err != nil || got.Bounds() != want.Bounds() {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a, _ := flatten(t.Context(), got, 0)
		b, _ := flatten(t.Context(), want, 0)
		if d := distance(a.Pixels, b.Pixels); d > 4 {
			t.Errorf("%s: pixels differ by %d", name, d)
		}

		for n := range data[:len(data)-2] {
			f := jpegFile{ctx: t.Context(), data: data[:n], adobe: -1}
			if err := f.read(); err == nil {
				t.Errorf("%s: cut to %d bytes it is read", name, n)
			}
		}
	}
}

// TestScans refuses files with far more scans than any encoder makes, which Go's decoder would read.
func TestScans(t *testing.T) {
	good := jpegOf(t, corners(255))
	at := bytes.Index(good, []byte{0xff, markSOS})
	end := len(good) - 2
	many := slices.Concat(good[:at], bytes.Repeat(good[at:end], maxScans+1), good[end:])
	if n := scans(many); n != maxScans+1 {
		t.Errorf("%d scans are counted", n)
	}
	if _, err := decoded(many, 0); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

// exifOf returns Exif data with an orientation, without the mark that precedes it in JPEG files.
func exifOf(n uint16, order binary.ByteOrder) []byte {
	data := oriented([]byte{0xff, 0xd8}, n, order)
	return bytes.TrimPrefix(data[6:], []byte(exifMark))
}

// TestOrientations reads the orientation in each type of file, wherever it stands.
func TestOrientations(t *testing.T) {
	exif := exifOf(6, binary.BigEndian)
	png := pngOf(t, corners(255))
	chunk := pngChunk("eXIf", exif)
	const header = 8 + 25 // signature, IHDR
	dot := webpFile(t)

	tests := map[string]struct {
		kind string
		data []byte
		want int
	}{
		"PNG":                      {"image/png", png, 1},
		"PNG, before its data":     {"image/png", slices.Concat(png[:header], chunk, png[header:]), 6},
		"PNG, after its data":      {"image/png", slices.Concat(png[:len(png)-12], chunk, png[len(png)-12:]), 6},
		"PNG, cut":                 {"image/png", slices.Concat(png[:header], chunk[:len(chunk)-9]), 1},
		"WebP":                     {"image/webp", dot, 1},
		"WebP with Exif":           {"image/webp", slices.Concat(dot, webpChunk("EXIF", exif)), 6},
		"WebP with a mark":         {"image/webp", slices.Concat(dot, webpChunk("EXIF", []byte(exifMark+string(exif)))), 6},
		"WebP, after an odd chunk": {"image/webp", slices.Concat(dot, webpChunk("odd ", []byte("a")), webpChunk("EXIF", exif)), 6},
		"WebP, cut":                {"image/webp", slices.Concat(dot, webpChunk("EXIF", exif)[:20]), 1},
		"GIF":                      {"image/gif", gifOf(t, 1), 1},
		"JPEG":                     {"image/jpeg", oriented(jpegOf(t, corners(255)), 8, binary.LittleEndian), 8},
	}
	for name, tt := range tests {
		if got := orientation(tt.kind, tt.data); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}

	turned, err := decoded(tests["PNG, before its data"].data, 0)
	if err != nil || turned.Width != 32 || turned.Height != 64 {
		t.Errorf("a PNG turned right: %v %v", turned, err)
	}
}

func FuzzJPEG(f *testing.F) {
	files, err := filepath.Glob("testdata/*.jpg")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, sampling := range samplings {
		var planes []flatPlane
		for i, s := range sampling {
			planes = append(planes, flatPlane{byte(i), s[0], s[1], quadrants(32, 0, 100, 200, 255)})
		}
		f.Add(flatJPEG(32, planes, false))
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		head := jpegFile{ctx: t.Context(), data: data, adobe: -1, headOnly: true}
		if head.read() != nil || head.width*head.height > 1<<16 || scans(data) > 10 {
			return
		}

		file := jpegFile{ctx: t.Context(), data: data, adobe: -1}
		if file.read() != nil {
			return
		}
		img, err := file.image()
		if err == nil && img.Bounds() != image.Rect(0, 0, file.width, file.height) {
			t.Errorf("%v of %d x %d", img.Bounds(), file.width, file.height)
		}
	})
}

// TestScansOfManyPixels refuses scans that pass too many pixels in all, before it decodes any.
func TestScansOfManyPixels(t *testing.T) {
	file := func(width, height, scans int) []byte {
		size := []byte{8, byte(height >> 8), byte(height), byte(width >> 8), byte(width), 1, 1, 0x11, 0}
		data := []byte{0xff, markSOI}
		data = append(data, 0xff, markSOF2, 0, byte(len(size)+2))
		data = append(data, size...)
		for range scans {
			data = append(data, 0xff, markSOS, 0, 8, 1, 1, 0, 0, 0, 0, 0)
		}
		return append(data, 0xff, markEOI)
	}
	for _, tt := range []struct {
		width, height, scans int
		refused              bool
	}{
		{8000, 6000, 12, false},
		{8000, 6000, 13, true},
		{100, 100, 100, false},
		{100, 100, 101, true},
	} {
		_, err := decoded(file(tt.width, tt.height, tt.scans), 0)
		if refused := err != nil && strings.Contains(err.Error(), "too many scans"); refused != tt.refused {
			t.Errorf("%d scans of %d x %d pixels: %v", tt.scans, tt.width, tt.height, err)
		}
	}
}
