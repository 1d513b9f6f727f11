package anthropic

import (
	"strings"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// block is a content block.
type block struct {
	wire.Value
	kind   string
	fields map[string]wire.Value // without the type
}

// blocks splits a content: a list of blocks, or a string, which is a block of text.
func (rd *reader) blocks(v wire.Value) ([]block, *fault.Error) {
	switch v.Raw[0] {
	case '"':
		return []block{{Value: v, kind: "text", fields: map[string]wire.Value{"text": v}}}, nil
	case '[':
	default:
		return nil, v.WrongType("a string or an array of content blocks")
	}

	list, e := v.Array(maxBlocks)
	if e != nil {
		return nil, e
	}
	blocks := make([]block, len(list))
	for i, item := range list {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}
		kind, e := item.RequiredText(object, "type")
		if e != nil {
			return nil, e
		}
		delete(object, "type")
		blocks[i] = block{item, kind, object}
	}
	return blocks, nil
}

// known notes the block's fields besides the given ones as ignored.
func (b *block) known(rd *reader, names ...string) { rd.only(b.fields, names...) }

// paragraphs joins texts by newlines.
type paragraphs struct {
	strings.Builder
	begun bool
}

func (p *paragraphs) add(text string) {
	if p.begun {
		p.WriteByte('\n')
	}
	p.begun = true
	p.WriteString(text)
}

// content is the text and the images of a message. Texts that follow each other become paragraphs;
// images are marks in the text.
type content struct {
	*reader
	textOnly bool                // images and documents are refused
	plain    func(string) string // changes each text; nil for none

	body   paragraphs
	images []prompt.Image
	parts  int
}

func (c *content) text() string { return c.body.String() }

func (c *content) empty() bool { return c.parts == 0 }

// skipped are blocks of tools that Anthropic's servers run, of their results, and of what they have
// done to a conversation. Nothing of them can be shown to a model here.
var skipped = map[string]bool{
	"server_tool_use":                        true,
	"web_search_tool_result":                 true,
	"web_fetch_tool_result":                  true,
	"advisor_tool_result":                    true,
	"code_execution_tool_result":             true,
	"bash_code_execution_tool_result":        true,
	"text_editor_code_execution_tool_result": true,
	"tool_search_tool_result":                true,
	"mcp_tool_use":                           true,
	"mcp_tool_result":                        true,
	"mcp_tool_listing":                       true,
	"container_upload":                       true,
	"browser_state":                          true,
	"fallback":                               true,
}

// add adds a block.
func (c *content) add(b block) *fault.Error {
	switch {
	case b.kind == "text":
		b.known(c.reader, "text", "citations")
		return c.addText(b, "text")
	case b.kind == "compaction":
		b.known(c.reader, "content")
		return c.addText(b, "content") // a summary of what was before
	case b.kind == "tool_reference":
		return c.addReference(b)
	case b.kind == "tool_addition", b.kind == "tool_removal":
		return c.changeTools(b)
	case skipped[b.kind]:
		c.ignore(b.Name)
		return nil
	case c.textOnly:
	case b.kind == "image":
		return c.addImage(b)
	case b.kind == "document":
		return c.addDocument(b)
	case b.kind == "search_result":
		return c.addSearchResult(b)
	}

	return fault.New(fault.Unsupported, b.Name+".type",
		"Invalid '%s.type': content of type '%s' is not supported here.", b.Name, b.kind)
}

// addText adds the text in the given field.
func (c *content) addText(b block, field string) *fault.Error {
	text, e := b.RequiredText(b.fields, field)
	if e != nil {
		return e
	}
	if c.plain != nil {
		text = c.plain(text)
	}
	c.paragraph(text)
	return nil
}

func (c *content) paragraph(text string) {
	c.body.add(text)
	c.parts++
}

// addReference adds the name of a tool that a search of the client's has found. All tools are offered
// from the beginning.
func (c *content) addReference(b block) *fault.Error {
	b.known(c.reader, "tool_name")
	name, e := b.RequiredText(b.fields, "tool_name")
	if e != nil {
		return e
	}
	c.paragraph("The tool " + name + " can be called.")
	return nil
}

// addImage adds an image's mark.
func (c *content) addImage(b block) *fault.Error {
	if field, ok := b.fields["transformations"]; ok {
		return unsupported(field, "Transform the image before sending it.")
	}
	b.known(c.reader, "source")
	url, e := readImageSource(b)
	if e != nil {
		return e
	}

	image := prompt.Image{Field: b.Name + ".source", URL: url, Mark: prompt.NewMark()}
	c.images = append(c.images, image)
	c.body.WriteString(image.Mark)
	c.body.begun = false // no newline between an image and a text
	c.parts++
	return nil
}

// source returns the source of a block, and its type.
func source(b block, types ...string) (wire.Value, map[string]wire.Value, string, *fault.Error) {
	field, e := b.Required(b.fields, "source")
	if e != nil {
		return field, nil, "", e
	}
	object, e := field.Object()
	if e != nil {
		return field, nil, "", e
	}
	kind, e := field.Required(object, "type")
	if e != nil {
		return field, nil, "", e
	}
	name, e := kind.OneOf(types...)
	return field, object, name, e
}

// readImageSource returns the URL of an image; its file is a data URL.
func readImageSource(b block) (string, *fault.Error) {
	field, object, kind, e := source(b, "base64", "url", "file")
	if e != nil {
		return "", e
	}

	switch kind {
	case "file":
		return "", unsupported(field, "File uploads are not supported; send the image as Base64.")
	case "url":
		return field.RequiredText(object, "url")
	}

	media, e := field.Required(object, "media_type")
	if e != nil {
		return "", e
	}
	mediaType, e := media.OneOf("image/jpeg", "image/png", "image/gif", "image/webp")
	if e != nil {
		return "", e
	}
	data, e := field.RequiredText(object, "data")
	return "data:" + mediaType + ";base64," + data, e
}

// unsupported refuses a field that would change the answer.
func unsupported(v wire.Value, why string) *fault.Error {
	return fault.New(fault.Unsupported, v.Name, "Unsupported parameter: '%s'. %s", v.Name, why)
}

// refuseCitations returns an error if an answer with citations is asked for.
func refuseCitations(b block) *fault.Error {
	field, ok := b.fields["citations"]
	if !ok {
		return nil
	}
	object, e := field.Object()
	if e != nil {
		return e
	}
	enabled, ok := object["enabled"]
	if !ok {
		return nil
	}
	if on, e := enabled.Bool(); e != nil || !on {
		return e
	}
	return unsupported(enabled, "Citations are not supported.")
}

// addDocument adds a document as text between tags.
func (c *content) addDocument(b block) *fault.Error {
	b.known(c.reader, "source", "title", "context", "citations")
	if e := refuseCitations(b); e != nil {
		return e
	}
	field, object, kind, e := source(b, "text", "content", "base64", "url", "file")
	if e != nil {
		return e
	}

	var inner content
	switch kind {
	case "text":
		data, e := field.RequiredText(object, "data")
		if e != nil {
			return e
		}
		inner.paragraph(data)
	case "content":
		list, e := field.Required(object, "content")
		if e != nil {
			return e
		}
		if inner, e = c.readContent(list); e != nil {
			return e
		}
	default:
		return unsupported(field, "PDF files are not supported; send the document's text.")
	}
	return c.enclose("document", b, []string{"title", "context"}, &inner)
}

// addSearchResult adds a result of a search as text between tags.
func (c *content) addSearchResult(b block) *fault.Error {
	b.known(c.reader, "source", "title", "content", "citations")
	if e := refuseCitations(b); e != nil {
		return e
	}
	list, e := b.Required(b.fields, "content")
	if e != nil {
		return e
	}
	inner, e := c.readContent(list)
	if e != nil {
		return e
	}
	return c.enclose("search_result", b, []string{"title", "source"}, &inner)
}

// readContent reads a content within a block: a string, or blocks.
func (rd *reader) readContent(v wire.Value) (content, *fault.Error) {
	c := content{reader: rd}
	blocks, e := rd.blocks(v)
	if e != nil {
		return c, e
	}
	for _, b := range blocks {
		if e := c.add(b); e != nil {
			return c, e
		}
	}
	return c, nil
}

// enclose adds a content between tags, after some fields of its block, which are texts.
func (c *content) enclose(tag string, b block, heads []string, inner *content) *fault.Error {
	var p paragraphs
	p.add("<" + tag + ">")
	for _, name := range heads {
		text, e := wire.OptionalText(b.fields, name)
		if e != nil {
			return e
		}
		if text != "" {
			p.add("<" + name + ">" + text + "</" + name + ">")
		}
	}
	p.add(inner.text())
	p.add("</" + tag + ">")

	c.paragraph(p.String())
	c.images = append(c.images, inner.images...)
	return nil
}
