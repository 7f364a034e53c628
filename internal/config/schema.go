package config

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Schema returns the JSON Schema (draft 7, the one that editors know) of the
// cluster file, made from the table of keys. It says less than [Parse] checks:
// nothing about names that must exist, nor about numbers that must fit together.
func Schema() []byte {
	s := schemaOf(fileKind)
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "Tenks cluster file"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		panic(err) // maps of strings, numbers and maps
	}
	return b.Bytes()
}

// schemaOf is the schema of a kind.
func schemaOf(k *kind) map[string]any {
	switch k.form {
	case formMapping:
		return mappingSchema(k)
	case formNames:
		s := map[string]any{"type": orNull("object", k.empty), "additionalProperties": schemaOf(k.each)}
		if !k.empty {
			s["minProperties"] = 1
		}
		if k.name.pattern != nil {
			s["propertyNames"] = map[string]any{"pattern": k.name.pattern.String()}
		}
		return s
	case formList:
		s := map[string]any{"type": orNull("array", k.empty), "items": schemaOf(k.each)}
		if !k.empty {
			s["minItems"] = 1
		}
		return s
	case formNumber:
		return map[string]any{"type": "integer", "minimum": k.least, "maximum": k.most}
	case formSize:
		return map[string]any{"type": "string", "pattern": sizePattern.String()}
	case formScalar:
		return withPattern(map[string]any{"type": []string{"string", "number", "boolean"}}, k)
	}
	if k.enum != nil {
		return map[string]any{"enum": k.enum}
	}
	return withPattern(map[string]any{"type": "string"}, k)
}

func withPattern(s map[string]any, k *kind) map[string]any {
	if k.pattern != nil {
		s["pattern"] = k.pattern.String()
	}
	return s
}

// orNull is a type, or that type and null.
func orNull(name string, null bool) any {
	if null {
		return []string{name, "null"}
	}
	return name
}

// mappingSchema is the schema of a mapping of known keys.
func mappingSchema(k *kind) map[string]any {
	properties, needs := map[string]any{}, map[string]any{}
	var required []string
	var never []any
	for _, key := range k.keys {
		p := schemaOf(key.kind)
		p["description"] = key.doc
		if key.def != "" {
			p["default"] = key.def
			if n, err := strconv.Atoi(key.def); err == nil && key.kind.form == formNumber {
				p["default"] = n
			}
		}
		properties[key.name] = p
		if key.required {
			required = append(required, key.name)
		}
		if key.with != nil {
			needs[key.name] = key.with
		}
		for _, other := range key.without {
			never = append(never, map[string]any{"required": []string{key.name, other}})
		}
	}
	s := map[string]any{"type": orNull("object", required == nil), "properties": properties, "additionalProperties": false}
	if required != nil {
		s["required"] = required
	}
	if len(needs) > 0 {
		s["dependencies"] = needs
	}
	if never != nil {
		s["not"] = map[string]any{"anyOf": never}
	}
	return s
}
