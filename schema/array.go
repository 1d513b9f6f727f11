package schema

import (
	"fmt"
	"strconv"
)

// array compiles what schemas say of arrays.
func (c *compiler) array(all []*value) expr {
	low, high := c.limits(all, "minItems", "maxItems")
	fixedItems := 0
	for _, v := range all {
		fixedItems = max(fixedItems, len(c.tuple(v)))
	}

	for _, v := range all {
		if u := v.members["uniqueItems"]; u != nil && u.kind == boolean && u.yes && high != 1 && high != 0 {
			c.ignore(v, "uniqueItems")
		}
	}

	var list []expr
	for i := range fixedItems {
		if !c.spend(len(all)) {
			return never
		}
		list = append(list, c.schema(c.itemSchemas(all, i)...))
	}

	item := c.schema(c.itemSchemas(all, fixedItems)...)
	if high >= 0 && low > high {
		return never
	}

	repeatLow := max(0, low-fixedItems)
	repeatHigh := -1
	if high >= 0 {
		repeatHigh = max(0, high-fixedItems)
	}

	if repeatLow > maxRepeat || repeatHigh > maxRepeat {
		c.ignoreAny(all, "minItems", "maxItems")
		repeatLow = min(repeatLow, maxRepeat)
		repeatHigh = -1
	}

	if len(list) == 0 {
		return c.alike(item, repeatLow, repeatHigh)
	}

	tail := repeat{seq{c.comma(), item}, repeatLow, repeatHigh}
	ws := c.basic("ws")
	return seq{literal("["), ws, c.tupleItems(list, tail, low, high), ws, literal("]")}
}

// comma separates items.
func (c *compiler) comma() expr {
	ws := c.basic("ws")
	return seq{ws, literal(","), ws}
}

// tupleItems compiles items that have schemas of their own, and the tail that follows them. What may come from an
// item on is a rule of its own: expressions within expressions would be as deep as the array is long.
func (c *compiler) tupleItems(list []expr, tail expr, low, high int) expr {
	prefix := fmt.Sprintf("%sa%d-", c.g.prefix, len(c.g.rules))
	comma := c.comma()
	// From the end: what may come after item i.
	for i := len(list) - 1; i >= 0; i-- {
		var here seq
		if i > 0 {
			here = seq{comma, list[i], tail}
		} else {
			here = seq{list[i], tail}
		}

		next := ref(prefix + strconv.Itoa(i))
		switch {
		case high >= 0 && i >= high:
			tail = empty
			continue
		case i >= low:
			c.g.rules[string(next)] = alt{here, empty}
		default:
			c.g.rules[string(next)] = here
		}
		tail = next
	}

	return tail
}

// alike compiles an array whose items are all of one kind.
func (c *compiler) alike(item expr, low, high int) expr {
	ws := c.basic("ws")
	if high == 0 {
		if low > 0 {
			return never
		}
		return seq{literal("["), ws, empty, ws, literal("]")}
	}

	comma := c.comma()
	some := seq{item, repeat{seq{comma, item}, max(0, low-1), less(high)}}
	if low > 0 {
		return seq{literal("["), ws, some, ws, literal("]")}
	}
	return seq{literal("["), ws, alt{some, empty}, ws, literal("]")}
}

// tuple is the schemas of the first items, by the name of either draft.
func (c *compiler) tuple(v *value) []*value {
	if p := v.members["prefixItems"]; p != nil && p.kind == array {
		return p.items
	}
	if i := v.members["items"]; i != nil && i.kind == array {
		return i.items
	}
	return nil
}

// itemSchemas returns the schemas that item i must meet.
func (c *compiler) itemSchemas(all []*value, i int) []*value {
	var schemas []*value
	for _, v := range all {
		tuple := c.tuple(v)
		items := v.members["items"]
		additional := v.members["additionalItems"]
		switch {
		case i < len(tuple):
			schemas = append(schemas, tuple[i])
		case items != nil && items.kind != array:
			schemas = append(schemas, items)
		case items != nil && additional != nil:
			schemas = append(schemas, additional)
		}
	}
	return schemas
}
