package manifest

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/pbsfs/pbsfs/store/corrupt"
)

// object returns the members of the JSON object that have one of the keys.
// The package json alone would also take keys in another case and would build
// all the rest of a hostile manifest in memory. text must be valid JSON.
func object(what string, text []byte, keys ...string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, corrupt.New("%s is no JSON object", what)
	}
	found := make(map[string]json.RawMessage, len(keys))
	var value json.RawMessage
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, corrupt.New("%s: %v", what, err)
		}
		if err := dec.Decode(&value); err != nil {
			return nil, corrupt.New("%s: %v", what, err)
		}
		if key, _ := token.(string); slices.Contains(keys, key) {
			found[key] = bytes.Clone(value)
		}
	}
	return found, nil
}

// elements calls visit for each element of the JSON array, at most limit of
// them. The element is only valid during the call. text must be valid JSON.
func elements(what string, text []byte, limit int, visit func(i int, element []byte)) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return corrupt.New("%s is no JSON array", what)
	}
	var element json.RawMessage
	for i := 0; dec.More(); i++ {
		if i == limit {
			return corrupt.New("%s has more than %d elements", what, limit)
		}
		if err := dec.Decode(&element); err != nil {
			return corrupt.New("%s: %v", what, err)
		}
		visit(i, element)
	}
	return nil
}

// isNull reports whether a member is missing or null.
func isNull(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }

// required decodes a member that must be there, and not be null.
func required(what string, value json.RawMessage, to any) error {
	if isNull(value) {
		return corrupt.New("%s is missing", what)
	}
	if err := json.Unmarshal(value, to); err != nil {
		return corrupt.New("%s: unusable value %s", what, shorten(value))
	}
	return nil
}

// optional decodes a member that may be missing or null.
func optional(what string, value json.RawMessage, to any) error {
	if isNull(value) {
		return nil
	}
	return required(what, value, to)
}

// maxShown limits how much of a manifest an error repeats.
const maxShown = 100

// shorten cuts text for an error.
func shorten[T ~string | ~[]byte](text T) string {
	if len(text) > maxShown {
		return string(text[:maxShown]) + "…"
	}
	return string(text)
}
