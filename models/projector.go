package models

// The sizes in a projector's header, and the limit of each: llama.cpp divides by
// some of them and allocates memory by others.
var projectorSizes = map[string]uint64{
	"image_size":           1 << 16,
	"patch_size":           1 << 12,
	"embedding_length":     1 << 20,
	"projection_dim":       1 << 20,
	"block_count":          1 << 12,
	"attention.head_count": 1 << 12,
}

// elsewhere has the projectors whose embeddings depend on their position in the prompt,
// or on the number of the image. serve reuses the embeddings of an image everywhere.
var elsewhere = map[string]bool{"deepseek4v": true, "hunyuanvl": true}

// ReadProjector reads and checks the header of a projector for images. Errors wrap
// ErrFormat if the content is at fault.
func ReadProjector(path string) (*Header, error) {
	h, err := ReadHeader(path)
	if err != nil {
		return nil, err
	}
	if sees, ok := h.Values["clip.has_vision_encoder"].(bool); h.Architecture() != "clip" || !ok || !sees {
		return nil, badFormat("%s is not an image projector", path)
	}

	kind := h.String("clip.projector_type")
	if kind == "" {
		kind = h.String("clip.vision.projector_type")
	}
	if elsewhere[kind] {
		return nil, badFormat("%s is a projector of type %s, which is not supported", path, kind)
	}

	for name, most := range projectorSizes {
		if n, whole := integer(h.Values["clip.vision."+name]); !whole || n < 1 || n > most {
			return nil, badFormat("clip.vision.%s of %s must be a number from 1 to %d", name, path, most)
		}
	}

	size := func(name string) uint64 { return h.Uint("clip.vision." + name) }
	if size("patch_size") > size("image_size") || size("embedding_length")%size("attention.head_count") > 0 {
		return nil, badFormat("the sizes in %s are inconsistent", path)
	}

	return h, nil
}
