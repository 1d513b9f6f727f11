package testmodel

import (
	"bytes"
	"fmt"
	"math/rand"
)

// Kinds of projectors, by llama.cpp's names.
const (
	MLP   = "mlp"            // LLaVA's: an image is Patches embeddings, one after another
	Gemma = "gemma3"         // an image is GemmaPatches embeddings that all see each other
	Qwen  = "qwen2vl_merger" // embeddings lie on a grid, one for QwenPixels by QwenPixels; the model must be a qwen2vl
)

// What an image becomes.
const (
	Patches      = 16
	GemmaPatches = 4
	QwenPixels   = 8
)

// Sizes of projectors.
const (
	visionWidth  = 32
	visionHidden = 48
	visionLayers = 2
	visionHeads  = 4
	patch        = 4 // pixels of a side
	imageSide    = 16
)

// Projector returns the file of a projector, for the model of the same package.
func Projector(kind string) []byte {
	w := &writer{rng: rand.New(rand.NewSource(43)), format: formats[F32]}
	w.visionMetadata(kind)

	w.tensor("v.patch_embd.weight", 0.1, patch, patch, 3, visionWidth)
	if kind == Qwen {
		w.tensor("v.patch_embd.weight.1", 0.1, patch, patch, 3, visionWidth)
	} else {
		w.tensor("v.position_embd.weight", 0.3, visionWidth, (imageSide/patch)*(imageSide/patch))
	}
	w.norm("v.post_ln")
	for i := range visionLayers {
		p := fmt.Sprintf("v.blk.%d.", i)
		w.norm(p + "ln1")
		w.norm(p + "ln2")
		for _, name := range []string{"q", "k", "v", "out"} {
			w.linear(p+"attn_"+name, visionWidth, visionWidth)
		}
		w.linear(p+"ffn_up", visionWidth, visionHidden)
		w.linear(p+"ffn_down", visionHidden, visionWidth)
	}

	switch kind {
	case MLP:
		w.linear("mm.0", visionWidth, width)
		w.linear("mm.2", width, width)
	case Gemma:
		w.tensor("mm.input_projection.weight", 0.3, width, visionWidth)
		w.tensor("mm.soft_emb_norm.weight", 0, visionWidth)
	case Qwen:
		w.linear("mm.0", 4*visionWidth, width)
		w.linear("mm.2", width, width)
	}
	return gguf(w.keys, w.list)
}

func (w *writer) visionMetadata(kind string) {
	w.str("general.architecture", "clip")
	w.str("general.type", "mmproj")
	w.str("general.name", "serve test projector")
	w.uint("general.alignment", 32)
	w.uint("general.file_type", 0)

	w.key("clip.has_vision_encoder", typeBool)
	w.b.WriteByte(1)
	w.key("clip.use_gelu", typeBool)
	w.b.WriteByte(1)
	w.str("clip.projector_type", kind)

	w.uint("clip.vision.image_size", imageSide)
	w.uint("clip.vision.patch_size", patch)
	w.uint("clip.vision.embedding_length", visionWidth)
	w.uint("clip.vision.feed_forward_length", visionHidden)
	w.uint("clip.vision.projection_dim", width)
	w.uint("clip.vision.block_count", visionLayers)
	w.uint("clip.vision.attention.head_count", visionHeads)
	w.float("clip.vision.attention.layer_norm_epsilon", 1e-5)

	for _, key := range []string{"image_mean", "image_std"} {
		w.array("clip.vision."+key, typeFloat, 3, func(b *bytes.Buffer) {
			for range 3 {
				put(b, float32(0.5))
			}
		})
	}
	if kind == Gemma {
		w.uint("clip.vision.projector.scale_factor", 2)
	}
}

// linear adds a layer's weight and bias.
func (w *writer) linear(name string, in, out int) {
	w.tensor(name+".weight", 0.3, in, out)
	w.tensor(name+".bias", 0.1, out)
}

// norm adds a layer norm of the vision model.
func (w *writer) norm(name string) {
	w.tensor(name+".weight", 0, visionWidth)
	w.tensor(name+".bias", 0.1, visionWidth)
}
