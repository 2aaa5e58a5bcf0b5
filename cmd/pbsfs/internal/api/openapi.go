package api

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// descriptionPath is where the OpenAPI description lies.
const descriptionPath = "/api2/openapi.json"

// describe makes the OpenAPI 3.1 description of operations.
func describe(all []*operation) map[string]any {
	paths := make(map[string]any)
	for _, op := range all {
		at := strings.TrimSuffix(Base, "/") + "/" + op.path
		entry, ok := paths[at].(map[string]any)
		if !ok {
			entry = make(map[string]any)
			paths[at] = entry
		}
		entry[strings.ToLower(op.method)] = op.describe()
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "pbsfs", "version": "1",
			"description": "Status, maintenance and contents of Proxmox Backup Server datastores. Where the server has a word for something, it is used here.",
		},
		"security": []any{map[string]any{"token": []any{}}, map[string]any{"session": []any{}}},
		"components": map[string]any{"securitySchemes": map[string]any{
			"token":   map[string]any{"type": "apiKey", "in": "header", "name": "Authorization", "description": "PBSAPIToken=USER@REALM!NAME:SECRET"},
			"session": map[string]any{"type": "apiKey", "in": "cookie", "name": "pbsfs-session", "description": "of the page; a change needs the header CSRFPreventionToken as well"},
		}},
		"paths": paths,
	}
}

// describe makes the description of one operation.
func (o *operation) describe() map[string]any {
	out := map[string]any{
		"operationId": o.id(),
		"summary":     o.summary,
		"responses":   o.responses(),
	}
	if o.need == 0 {
		out["security"] = []any{}
	} else {
		out["description"] = fmt.Sprintf("Needs a token with the role %s.", o.need)
	}
	var list []any
	body, required := make(map[string]any), []any{}
	for _, p := range paramsOf(o.in, o.path) {
		schema := p.kind.schema
		switch {
		case p.inPath(o.path):
			list = append(list, map[string]any{"name": p.name, "in": "path", "required": true, "description": p.doc, "schema": schema})
		case !o.changes():
			list = append(list, map[string]any{"name": p.name, "in": "query", "required": !p.optional, "description": p.doc, "schema": schema})
		default:
			described := map[string]any{"description": p.doc}
			for k, v := range schema {
				described[k] = v
			}
			body[p.name] = described
			if !p.optional {
				required = append(required, p.name)
			}
		}
	}
	if len(list) > 0 {
		out["parameters"] = list
	}
	if len(body) > 0 {
		schema := map[string]any{"type": "object", "properties": body, "additionalProperties": false}
		if len(required) > 0 {
			schema["required"] = required
		}
		media := map[string]any{"schema": schema}
		out["requestBody"] = map[string]any{
			"required": len(required) > 0,
			"content":  map[string]any{"application/json": media, "application/x-www-form-urlencoded": media},
		}
	}
	return out
}

// id is the name of the operation, for programs that make code from the description.
func (o *operation) id() string {
	return strings.ToLower(o.method) + "-" + strings.NewReplacer("/", "-", "{", "", "}", "").Replace(o.path)
}

// responses describes the answers.
func (o *operation) responses() map[string]any {
	out := map[string]any{
		"200": map[string]any{"description": "done", "content": o.content()},
		"default": map[string]any{
			"description": "what was wrong, and what would be right",
			"content":     map[string]any{"text/plain": map[string]any{"schema": typed("string")}},
		},
	}
	if o.changes() && o.ours() {
		out["409"] = map[string]any{
			"description": "operations are active: who has them; or another refusal, as text",
			"content": map[string]any{
				"application/json": map[string]any{"schema": schemaOf(reflect.TypeFor[Refusal]())},
				"text/plain":       map[string]any{"schema": typed("string")},
			},
		}
	}
	return out
}

// content describes the answer when all went well.
func (o *operation) content() map[string]any {
	if o.out == nil {
		media := make(map[string]any)
		for m := range strings.SplitSeq(o.media, ", ") {
			media[m] = map[string]any{"schema": typed("string")}
		}
		return media
	}
	fields := map[string]any{"data": schemaOf(o.out)}
	for _, f := range o.beside {
		fields[f] = typed("string")
	}
	return map[string]any{"application/json": map[string]any{"schema": map[string]any{
		"type": "object", "required": []any{"data"}, "properties": fields, "additionalProperties": false,
	}}}
}

// schemaOf describes a type as JSON has it.
func schemaOf(t reflect.Type) any {
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{})
	if err != nil {
		panic(fmt.Sprintf("an answer of type %s cannot be described: %v", t, err))
	}
	return s
}
