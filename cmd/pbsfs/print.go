package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/pbsfs/pbsfs/maint/text"
)

// A command prints its output for people through out, and its complaints through
// stderr. Both make names, messages and answers of others printable. Text that becomes
// a part of a line is made printable where the line is composed, because a line break
// in it must not begin another line. The contents of files, and names that do not go to
// a terminal, are written to stdout as they are.

// out returns the writer for output for people.
func (a *app) out() io.Writer { return text.NewWriter(a.stdout) }

// json prints a value as JSON.
func (a *app) json(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(text.JSON(append(data, '\n')))
	return err
}

// counted returns a number of things in words. The word for several may be given.
func counted(n int64, one string, many ...string) string {
	switch {
	case n == 1:
		return "1 " + one
	case len(many) > 0:
		return fmt.Sprintf("%d %s", n, many[0])
	}
	return fmt.Sprintf("%d %ss", n, one)
}
