package engine

import (
	"fmt"
	"slices"
	"sync"
)

// Limits on what is remembered of images, of all tenants together.
const (
	rememberedBytes = 128 << 20 // of embeddings
	rememberedIDs   = 1 << 16   // images whose IDs are known
)

// imageCache keeps the embeddings of recent images: a conversation sends its images
// again with every turn. Each tenant has its own: none can tell by the time what another has sent.
type imageCache struct {
	busy chan struct{} // holds one token while an image is encoded

	mu      sync.Mutex
	tenants map[string]*tenantImages
	lastID  Token
	bytes   int // of the embeddings of all tenants
	ids     int // that are known of all tenants
}

// tenantImages is what is remembered of a tenant's images.
type tenantImages struct {
	ids    map[ImageKey]Token // the first of an image's; those after it are lower
	chunks map[ImageKey][]Chunk
	order  []ImageKey // of chunks, the least recently used first
	bytes  int
}

func newImageCache() *imageCache {
	return &imageCache{busy: make(chan struct{}, 1), tenants: map[string]*tenantImages{}}
}

// recall returns what is remembered of a tenant's image.
func (c *imageCache) recall(tenant string, key ImageKey) ([]Chunk, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.tenants[tenant]
	if own == nil {
		return nil, false
	}
	chunks, ok := own.chunks[key]
	if ok {
		own.order = append(slices.DeleteFunc(own.order, func(k ImageKey) bool { return k == key }), key)
	}
	return chunks, ok
}

// remember names the media of a tenant's image and keeps them. When there are too many, the tenant that has the most
// loses what it has not used for longest.
func (c *imageCache) remember(tenant string, key ImageKey, chunks []Chunk) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastID < -1<<31+1<<16 {
		return fmt.Errorf("%w: too many images", ErrCannot)
	}

	own := c.tenants[tenant]
	if own == nil {
		own = &tenantImages{ids: map[ImageKey]Token{}, chunks: map[ImageKey][]Chunk{}}
		c.tenants[tenant] = own
	}
	first, known := own.ids[key]
	if !known {
		// An ID is never given to another image: one that is forgotten gets new ones.
		if c.ids == rememberedIDs {
			most := c.most(func(t *tenantImages) int { return len(t.ids) })
			c.ids -= len(most.ids)
			clear(most.ids)
		}
		first = c.lastID - 1
		own.ids[key] = first
		c.ids++
	}

	c.lastID = min(c.lastID, name(chunks, first))
	own.chunks[key] = chunks
	own.order = append(own.order, key)
	own.bytes += sizeOf(chunks)
	c.bytes += sizeOf(chunks)
	for c.bytes > rememberedBytes {
		most := c.most(func(t *tenantImages) int { return t.bytes })
		if most == own && len(own.order) == 1 {
			break // the last one is kept, whatever its size
		}
		c.drop(most)
	}

	return nil
}

// name gives the media of an image their IDs, and returns the last one.
func name(chunks []Chunk, first Token) Token {
	next := first
	for _, c := range chunks {
		if c.Media != nil {
			c.Media.ID = next
			next--
		}
	}
	return next + 1
}

// sizeOf returns the bytes of an image's embeddings.
func sizeOf(chunks []Chunk) int {
	size := 0
	for _, c := range chunks {
		if c.Media != nil {
			size += 4 * len(c.Media.Embeddings)
		}
	}
	return size
}

// most returns the tenant that has the most of something. There must be one.
func (c *imageCache) most(of func(*tenantImages) int) *tenantImages {
	var most *tenantImages
	for _, t := range c.tenants {
		if most == nil || of(t) > of(most) {
			most = t
		}
	}
	return most
}

// drop drops the embeddings of a tenant's image that it has not used for longest.
func (c *imageCache) drop(t *tenantImages) {
	oldest := t.order[0]
	size := sizeOf(t.chunks[oldest])
	t.bytes -= size
	c.bytes -= size
	delete(t.chunks, oldest)
	t.order = t.order[1:]
}

// forget drops what is remembered of a tenant's images.
func (c *imageCache) forget(tenant string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.tenants[tenant]
	if own == nil {
		return
	}
	c.bytes -= own.bytes
	c.ids -= len(own.ids)
	delete(c.tenants, tenant)
}
