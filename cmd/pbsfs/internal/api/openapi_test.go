package api

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestTheDescriptionHasEveryOperation(t *testing.T) {
	text, err := json.Marshal(describe(operations()))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Summary     string
			Parameters  []struct{ Name, In, Description string }
			RequestBody *struct{ Content map[string]any } `json:"requestBody"`
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, op := range operations() {
		d, ok := doc.Paths[Base+op.path][strings.ToLower(op.method)]
		if !ok || d.Summary == "" || ids[d.OperationID] {
			t.Errorf("%s %s: described: %t, as %q", op.method, op.path, ok, d.OperationID)
		}
		ids[d.OperationID] = true
		for _, p := range d.Parameters {
			if p.Description == "" {
				t.Errorf("%s %s: nobody says what %s is", op.method, op.path, p.Name)
			}
			if inPath := strings.Contains(op.path, "{"+p.Name+"}"); inPath != (p.In == "path") {
				t.Errorf("%s %s: %s is said to be in the %s", op.method, op.path, p.Name, p.In)
			}
		}
		if n := strings.Count(op.path, "{"); n > len(d.Parameters) {
			t.Errorf("%s %s: a part of the path is not described", op.method, op.path)
		}
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("it is a description of version %q", doc.OpenAPI)
	}
}

// What changes something needs more than to look.
func TestOnlyAdminsChange(t *testing.T) {
	for _, op := range operations() {
		own := strings.HasPrefix(op.path, "pbsfs/session") || op.path == "access/ticket"
		if op.changes() && !own && op.need.String() != "admin" {
			t.Errorf("%s %s needs the role %s", op.method, op.path, op.need)
		}
		if op.need == 0 && !own {
			t.Errorf("%s %s is open to everybody", op.method, op.path)
		}
	}
}
