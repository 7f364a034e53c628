package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// element is an XML element that is read, changed here and there, and written
// again with all else as it was: libvirt's domains hold much that is none of
// our business. Names keep their prefix as written ("qemu:commandline").
type element struct {
	name  string
	attrs []xml.Attr // names as written, in Name.Local
	kids  []any      // *element, xml.CharData, xml.Comment, xml.ProcInst
}

// parseXML reads a document.
func parseXML(text string) (*element, error) {
	d := xml.NewDecoder(strings.NewReader(text))
	root := &element{}
	stack := []*element{root}
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("libvirt's XML: %w", err)
		}
		top := stack[len(stack)-1]
		switch t := tok.(type) {
		case xml.StartElement:
			e := &element{name: rawName(t.Name)}
			for _, a := range t.Attr {
				e.attrs = append(e.attrs, xml.Attr{Name: xml.Name{Local: rawName(a.Name)}, Value: a.Value})
			}
			top.kids = append(top.kids, e)
			stack = append(stack, e)
		case xml.EndElement:
			if len(stack) == 1 || top.name != rawName(t.Name) {
				return nil, fmt.Errorf("libvirt's XML: </%s> without its beginning", rawName(t.Name))
			}
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.kids = append(top.kids, t.Copy())
		case xml.Comment:
			top.kids = append(top.kids, t.Copy())
		}
	}
	if len(stack) != 1 {
		return nil, fmt.Errorf("libvirt's XML: <%s> without its end", stack[len(stack)-1].name)
	}
	for _, k := range root.kids {
		if e, ok := k.(*element); ok {
			return e, nil
		}
	}
	return nil, fmt.Errorf("libvirt's XML: no element")
}

func rawName(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

// String writes the element.
func (e *element) String() string {
	var b strings.Builder
	e.write(&b)
	return b.String()
}

func (e *element) write(b *strings.Builder) {
	b.WriteString("<" + e.name)
	for _, a := range e.attrs {
		b.WriteString(" " + a.Name.Local + `="`)
		_ = xml.EscapeText(b, []byte(a.Value)) // a Builder takes everything
		b.WriteString(`"`)
	}
	if len(e.kids) == 0 {
		b.WriteString("/>")
		return
	}
	b.WriteString(">")
	for _, k := range e.kids {
		switch k := k.(type) {
		case *element:
			k.write(b)
		case xml.CharData:
			// Not EscapeText: that would write line ends as character references.
			b.WriteString(strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(string(k)))
		case xml.Comment:
			b.WriteString("<!--" + string(k) + "-->")
		}
	}
	b.WriteString("</" + e.name + ">")
}

// all returns the children of that name.
func (e *element) all(name string) []*element {
	if e == nil {
		return nil
	}
	var found []*element
	for _, k := range e.kids {
		if c, ok := k.(*element); ok && c.name == name {
			found = append(found, c)
		}
	}
	return found
}

// at follows the path to the first element of each name; nil if there is none.
func (e *element) at(path ...string) *element {
	for _, name := range path {
		c := e.all(name)
		if len(c) == 0 {
			return nil
		}
		e = c[0]
	}
	return e
}

// text is the element's text; nil has none.
func (e *element) text() string {
	if e == nil {
		return ""
	}
	var b strings.Builder
	for _, k := range e.kids {
		if c, ok := k.(xml.CharData); ok {
			b.Write(c)
		}
	}
	return strings.TrimSpace(b.String())
}

// attr is the value of an attribute; nil has none.
func (e *element) attr(name string) string {
	if e != nil {
		for _, a := range e.attrs {
			if a.Name.Local == name {
				return a.Value
			}
		}
	}
	return ""
}

// setText replaces all that is in the element.
func (e *element) setText(s string) { e.kids = []any{xml.CharData(s)} }

// setAttr sets an attribute; an empty value removes it.
func (e *element) setAttr(name, value string) {
	for i, a := range e.attrs {
		if a.Name.Local != name {
			continue
		}
		if value == "" {
			e.attrs = append(e.attrs[:i:i], e.attrs[i+1:]...)
		} else {
			e.attrs[i].Value = value
		}
		return
	}
	if value != "" {
		e.attrs = append(e.attrs, xml.Attr{Name: xml.Name{Local: name}, Value: value})
	}
}

// child returns the first child of that name, made if there is none.
func (e *element) child(name string) *element {
	if c := e.at(name); c != nil {
		return c
	}
	c := &element{name: name}
	e.kids = append(e.kids, c)
	return c
}

// remove takes children out.
func (e *element) remove(gone ...*element) {
	var kept []any
	for _, k := range e.kids {
		c, ok := k.(*element)
		keep := true
		for _, g := range gone {
			keep = keep && !(ok && c == g)
		}
		if keep {
			kept = append(kept, k)
		}
	}
	e.kids = kept
}

// removeAll takes all children of that name out.
func (e *element) removeAll(name string) { e.remove(e.all(name)...) }
